// A trained tensor on its way into an export: whole, by name, wherever its values are kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/huggingface/model_directory.h"
#include "csrc/base/dtype.h"
#include "csrc/base/hash.h"
#include "parallel_state/model/sharded_tensor.h"
#include "parallel_state/model/tensor_map.h"

namespace sutor {

struct TrainedTensor {
  std::string name;  // global HF name
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;         // of what read() gives
  DType stored_dtype = DType::kF32;  // of what an adapter holds; a merged export takes the base's
  // Fills a piece of this tensor: of its name, shape and `dtype`, any rows and columns.
  std::function<void(const ShardedTensor& slice)> read;

  // Of all columns, over memory that has room for it.
  ShardedTensor rows(int64_t row_begin, int64_t row_count, std::byte* into) const;
};

// Over memory that has to outlive it. `tensor` must hold all its rows.
TrainedTensor trained_tensor(const ShardedTensor& tensor);

// Sets every stored_dtype to that of the base, of a quantised tensor to that of its config.json.
// Throws E0314 for a name that the model does not have, E0302 for another shape.
void store_as_base(std::vector<TrainedTensor>& tensors, const ModelDirectory& base,
                   const TensorMap& model);

// Gives the tensor's bytes in `dtype` to `sink`, piece by piece; about 2 MiB are held at a time
// (more when a single row is larger).
void stream_converted(const TrainedTensor& tensor, DType dtype,
                      const std::function<void(std::span<const std::byte>)>& sink);

// Whether the tensor, converted to its stored_dtype, is the base's in that dtype, bit for bit.
bool equals_base(const TrainedTensor& tensor, const ModelDirectory& base, const TensorEntry& entry);

// What the bytes of an export must hash to, by name: the tensors converted to their stored_dtype.
std::map<std::string, Digest> stored_digests(const std::vector<TrainedTensor>& tensors);

}  // namespace sutor
