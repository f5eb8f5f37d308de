// Seeded random weights for a Hugging Face checkpoint: matrices normal(0, std), norms one, biases
// zero. Every value is a function of (seed, tensor name, element number), so that any slice of any
// tensor can be made on its own, on any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint/huggingface/hf_index.h"
#include "csrc/base/dtype.h"
#include "parallel_state/model/tensor_map.h"

namespace sutor {

struct RandomModelOptions {
  uint64_t seed = 0;
  DType dtype = DType::kF32;  // correction biases are always F32
  double std = 0.02;
  int64_t max_shard_bytes = kDefaultShardBytes;
  // The other files of the directory: name -> content.
  std::map<std::string, std::string> other_files;
};

// Elements [begin, begin + count) of a tensor, in `dtype`.
void random_elements(const TensorEntry& tensor, uint64_t seed, double std, int64_t begin,
                     int64_t count, DType dtype, std::byte* into);

// Writes and publishes a model directory (E0220 when it exists): one file, or shards with an index.
// Tensors are stored in the form of their first sources, in the order of the model. Needs about
// 64 MiB of memory.
void write_random_model(const std::filesystem::path& directory, const TensorMap& model,
                        const RandomModelOptions& options);

}  // namespace sutor
