// Checks that two models on disk are the same files, byte for byte: a base store and the directory
// that it was made from. Each function throws E0101 naming the first difference.
#pragma once

#include <string>

#include "checkpoint/huggingface/model_directory.h"

namespace sutor {

// Names of the shards and of all other files.
void check_same_files(const ModelDirectory& a, const ModelDirectory& b);
// Size, header and all tensors of one shard, on `threads` threads (0 = all).
void check_same_shard(const ModelDirectory& a, const ModelDirectory& b, size_t shard, int threads);
void check_same_other_file(const ModelDirectory& a, const ModelDirectory& b,
                           const std::string& path);

}  // namespace sutor
