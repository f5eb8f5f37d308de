// A flat buffer of a few small tensors whose values and gradients are functions of name and global
// index, so that every layout of it holds the same numbers.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "csrc/base/hash.h"
#include "csrc/base/random.h"
#include "layers/optim/optimizer.h"

namespace sutor::testing {

struct BufferTensor {
  std::string name;
  TensorShard shard;
  bool decays = true;
};

inline BufferTensor whole_tensor(const std::string& name, std::vector<int64_t> shape,
                                 bool decays = true) {
  int64_t columns = 1;
  for (size_t axis = 1; axis < shape.size(); ++axis) columns *= shape[axis];
  return {name, {shape, 0, shape[0], 0, columns}, decays};
}

// A vector that takes no decay lies between matrices that do.
inline std::vector<BufferTensor> sample_buffer_tensors() {
  return {whole_tensor("a", {7, 5}), whole_tensor("norm", {11}, false),
          whole_tensor("b", {3, 4, 2}), whole_tensor("c", {64, 33})};
}

inline void fill_buffer(FlatBuffer& buffer, const std::vector<BufferTensor>& tensors) {
  for (const BufferTensor& tensor : tensors) buffer.add(tensor.name, tensor.shard, tensor.decays);
  buffer.allocate();
}

// In [-0.5, 0.5), of the element at a global index.
inline float number_of(const std::string& name, uint64_t salt, int64_t index) {
  return static_cast<float>(
      unit_of(mix64(xxh3(name).low + salt * kGolden64 + static_cast<uint64_t>(index))) - 0.5);
}

// [rows, columns] of a shard.
inline at::Tensor numbers_of(const ShardedTensor& shard, uint64_t salt, float scale = 1) {
  at::Tensor numbers = at::empty({shard.row_count, shard.columns()});
  float* to = numbers.data_ptr<float>();
  for (int64_t r = 0; r < shard.row_count; ++r) {
    for (int64_t c = 0; c < shard.columns(); ++c) {
      const int64_t index = (shard.row_begin + r) * shard.row_elements() + shard.col_begin + c;
      *to++ = scale * number_of(shard.name, salt, index);
    }
  }
  return numbers;
}

inline void set_weights(FlatBuffer& buffer) {
  for (size_t i = 0; i < buffer.size(); ++i) {
    const at::Tensor value = buffer.value(i);
    value.copy_(numbers_of(buffer.shard(i), 0).view(value.sizes()));
  }
}

// Those of a step, as if reduced already: the same on all replicas.
inline void set_gradients(FlatBuffer& buffer, int64_t step) {
  for (size_t i = 0; i < buffer.size(); ++i) {
    const at::Tensor grad = buffer.grad(i);
    grad.copy_(
        numbers_of(buffer.shard(i), 1000 + static_cast<uint64_t>(step), 1e-2f).view(grad.sizes()));
  }
}

// By tensor and kind, rows x columns of what an optimizer has on this rank, as fp32.
using StateValues = std::map<std::pair<std::string, std::string>, at::Tensor>;
inline StateValues state_values(Optimizer& optimizer) {
  StateValues values;
  for (const StateKind& kind : optimizer.declared().kinds) {
    for (const auto& [rows, rows_values] : optimizer.state(kind.name)) {
      at::Tensor value = at::empty({rows.row_count, rows.columns()});
      convert_elements(rows.data, kind.dtype, static_cast<std::byte*>(value.data_ptr()),
                       DType::kF32, rows.num_elements());
      values[{rows.name, kind.name}] = value;
    }
  }
  return values;
}

}  // namespace sutor::testing
