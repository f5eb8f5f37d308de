// MANIFEST.json: the last file of a checkpoint to be written and the only one that is trusted: it
// records the sizes and digests of all others. Its first line has the xxh3 of the rest.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/format/file_size.h"
#include "csrc/base/hash.h"
#include "parallel_state/model/optimizer_state.h"

namespace sutor {

// The training state without its tensors.
struct CheckpointMeta {
  int64_t step = 0;
  std::string base_digest;       // Digest::text() of the frozen base
  nlohmann::json base_config;    // its computing_config(); null in checkpoints of older programs
  std::string plan_digest;       // of which parameters train
  nlohmann::json expert_config;  // the official form
  std::string layout;            // for people: "world 4: pp 1 x ep 2 x edp 2"
  OptimizerState optimizer;      // whose state the tensors are
  nlohmann::json state;          // an object: schedule, data cursor, RNG, metrics tail, ...
  nlohmann::json provenance;     // program version, commit, command
};

// One writer's pair of files, w<writer>.h5 and w<writer>.idx.
struct FileRecord {
  int writer = 0;
  int64_t bytes = 0;
  Digest metadata_digest;  // of all bytes outside tiles, in order
  int64_t index_bytes = 0;
  Digest index_digest;
  int64_t tiles = 0;
};

struct Manifest {
  CheckpointMeta meta;  // without `state`, which is in state.h5
  std::string uuid;
  std::vector<FileRecord> files;  // by writer
  int64_t state_bytes = 0;
  Digest state_digest;
  int64_t tensors = 0;
  int64_t parameters = 0;

  int64_t total_bytes() const;  // of all files but the manifest
  // Of all files but the manifest.
  std::vector<FileSize> file_sizes() const;
};

nlohmann::json to_json(const FileRecord& record);
// Throws E0342 naming `where` when keys are missing or ill-typed.
FileRecord file_record(const nlohmann::json& json, const std::string& where);

std::string encode_manifest(const Manifest& manifest);
// Throws E0342 when the digest does not match or the content is not a manifest, E0343 for another
// format version.
Manifest decode_manifest(const std::string& text, const std::string& where);

// The manifest of a step directory. Throws E0341 when there is none, else as decode_manifest().
Manifest load_manifest(const std::filesystem::path& directory);
// The same, and checks the size of every listed file: E0344 for a missing file or another size.
Manifest read_manifest(const std::filesystem::path& directory);

}  // namespace sutor
