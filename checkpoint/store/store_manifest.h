// MANIFEST.json of a base store: records the size and digest of every other file, and which files
// of the Hugging Face directory they represent. It depends only on the model and the program:
// stores made from equal models are equal, wherever and by however many ranks they were made.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/format/file_size.h"
#include "csrc/base/hash.h"

namespace sutor {

// A safetensors file of the directory: its header is kept as it was, its tensors are in data files.
struct StoreShardRecord {
  std::string name;  // plain; records are in the order of names
  int64_t bytes = 0;
  int64_t header_bytes = 0;  // up to the first tensor
  Digest header_digest;
};

// b<number>.h5 and b<number>.idx.
struct StoreDataFile {
  int64_t bytes = 0;
  int64_t index_bytes = 0;
  Digest index_digest;
};

// files/<path>, kept as it was.
struct StoreOtherFile {
  std::string path;  // relative, with '/'
  int64_t bytes = 0;
  Digest digest;
};

struct StoreManifest {
  Digest weights;          // ModelDirectory::digest()
  int64_t tensors = 0;     // of all shards
  int64_t data_bytes = 0;  // of all tensors
  int64_t max_file_bytes = 0;
  std::vector<StoreShardRecord> shards;
  std::vector<StoreDataFile> data_files;    // by number
  std::vector<StoreOtherFile> other_files;  // by path
  nlohmann::json provenance;                // program, version, commit

  const StoreOtherFile* find_file(const std::string& path) const;
  int64_t total_bytes() const;  // of all files but the manifest
  // Of all files but the manifest.
  std::vector<FileSize> file_sizes() const;
};

std::string encode_store_manifest(const StoreManifest& manifest);
// Throws E0342 when the digest does not match, the content is not a manifest, or a name could lead
// out of the store; E0343 for another version.
StoreManifest decode_store_manifest(const std::string& text, const std::string& where);

// Throws E0341 when there is none, else as decode_store_manifest().
StoreManifest load_store_manifest(const std::filesystem::path& store);
// The same, and checks the size of every listed file: E0344 for a missing file, a link or another
// size.
StoreManifest read_store_manifest(const std::filesystem::path& store);

// Whether a folder is a base store, sound or not. A Hugging Face directory with a file of the
// manifest's name is not one.
bool is_base_store(const std::filesystem::path& path);

// config.json of a store, checked against its digest (E0347).
std::string read_store_config(const std::filesystem::path& store, const StoreManifest& manifest);

}  // namespace sutor
