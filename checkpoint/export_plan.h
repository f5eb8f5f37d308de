// What a merged export changes, copies and leaves out: shared by its writer and its verifier.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/model_directory.h"

namespace sutor {

// Bytes [begin, end) of a base shard that a trained tensor replaces.
struct TrainedRange {
  int64_t begin = 0;
  int64_t end = 0;
  std::string name;  // of the trained tensor
};

// By shard of the base, in the order of the bytes. Throws E0301 for a name that the model or the
// base does not have, E0307 for a tensor that the base holds quantised.
std::vector<std::vector<TrainedRange>> trained_ranges(const ModelDirectory& base,
                                                      const TensorMap& model,
                                                      const std::vector<std::string>& names);

// Every file of the base but its shards, relative to files_root(), that an export copies.
// `anything_trained`: weights that the model directory does not use, and an older
// sutor_export.json, stay behind.
std::set<std::filesystem::path> copied_files(const ModelDirectory& base, bool anything_trained);

}  // namespace sutor
