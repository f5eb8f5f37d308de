// A merged Hugging Face directory: the base with the trained values in place. Same shards, index,
// tensor order, dtypes and metadata; every byte that was not trained is copied as it is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/adapter.h"
#include "checkpoint/model_directory.h"
#include "checkpoint/trained_tensor.h"

namespace sutor {

constexpr const char* kMergedInfoFile = "sutor_export.json";

// Writes and publishes `directory` (E0220 when it exists). Trained tensors are converted to the
// base's dtype (round to nearest even); one slice of a fused tensor is replaced in place. All other
// files of the base are copied, in subdirectories too, except `.git` and `.cache`;
// `sutor_export.json` (base digest, digests of what changed, provenance) is added. Weights in files
// that the model directory does not use (consolidated.safetensors, *.bin, *.gguf ...) are left out,
// since they would hold the untrained values. With no trained tensor everything is copied and
// nothing added: the directory then equals the base byte for byte. Returns the digest of every
// changed tensor's bytes, by name. Memory is bounded.
std::map<std::string, Digest> export_merged(const ModelDirectory& base, const TensorMap& model,
                                            std::vector<TrainedTensor> trained,
                                            const std::filesystem::path& directory,
                                            const ExportOrigin& origin);

struct VerifyReport {
  int64_t changed = 0;    // trained tensors: they differ from the base and are as expected
  int64_t identical = 0;  // stored tensors without any trained part: equal to the base, bit for bit
  int64_t other_files = 0;
};

// Reads both directories and compares every byte. `changed`: the digests that the trained tensors
// must have, by name. Throws E0101 naming the first tensor or file that is not as it has to be: one
// that was not trained but differs, one with another digest than expected, a header or another file
// that differs or is missing; E0102 for a trained tensor whose bytes equal the base.
VerifyReport verify_merged(const ModelDirectory& base, const TensorMap& model,
                           const std::filesystem::path& merged,
                           const std::map<std::string, Digest>& changed);

// The adapter holds exactly the tensors of `changed`, with these digests (E0101), each in the
// base's shape, and each different from the base (E0102); its base, where recorded, is this one
// (E0305).
VerifyReport verify_adapter(const ModelDirectory& base, const TensorMap& model,
                            const Adapter& adapter, const std::map<std::string, Digest>& changed);

}  // namespace sutor
