// A shard of a tensor with its values, wherever these are: what is loaded, hashed, saved and
// exported of a rank's memory. The files' code sees host memory only; windows (host_window.h) stand
// between it and a device.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "parallel_state/model/sharded_tensor.h"

namespace sutor {

struct ShardValues {
  ShardedTensor place;  // data: the values' memory when the host reads it, else null
  at::Tensor values;    // contiguous, of the shard's elements in order
};

// The place with its dtype and data filled in.
ShardValues shard_values(ShardedTensor place, const at::Tensor& values);

// Some rows of it, by reference.
ShardValues rows_of(const ShardValues& shard, int64_t row_begin, int64_t row_count);

// Calls `use` with the shard in host memory: all of it, or windows of some rows one after the other
// when the values are on a device. `use` reads the data.
void read_in_windows(const ShardValues& shard,
                     const std::function<void(const ShardedTensor&)>& use);
// The same for a `fill` that writes the data, which then go to the values.
void fill_in_windows(const ShardValues& shard, const std::function<void(ShardedTensor&)>& fill);

// The torch dtype of a DType and back (F32, BF16, F16 only).
at::ScalarType torch_dtype(DType dtype);
DType disk_dtype(at::ScalarType dtype);

}  // namespace sutor
