#include "layers/shards/shard_values.h"

#include <ATen/core/Tensor.h>

#include <algorithm>

#include "csrc/base/error.h"
#include "csrc/ops/device/host_window.h"

namespace sutor {

at::ScalarType torch_dtype(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return at::kFloat;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kF16:
      return at::kHalf;
    default:
      fail(ErrorCode::kBadDType, "dtype {} cannot be computed with", name_of(dtype));
  }
}

DType disk_dtype(at::ScalarType dtype) {
  if (dtype == at::kFloat) return DType::kF32;
  if (dtype == at::kBFloat16) return DType::kBF16;
  SUTOR_ASSERT(dtype == at::kHalf);
  return DType::kF16;
}

ShardValues shard_values(ShardedTensor place, const at::Tensor& values) {
  SUTOR_ASSERT(values.is_contiguous());
  place.dtype = disk_dtype(values.scalar_type());
  place.data =
      ops::is_in_host_memory(values) ? static_cast<std::byte*>(values.data_ptr()) : nullptr;
  return {std::move(place), values};
}

ShardValues rows_of(const ShardValues& shard, int64_t row_begin, int64_t row_count) {
  const int64_t columns = shard.place.columns();
  const int64_t skipped = row_begin - shard.place.row_begin;
  ShardedTensor rows = shard.place;
  rows.row_begin = row_begin;
  rows.row_count = row_count;
  return shard_values(std::move(rows),
                      shard.values.view({-1}).narrow(0, skipped * columns, row_count * columns));
}

namespace {

// Calls f(rows in host memory) for all of the shard, or for runs of rows that fit in a window.
template <typename F>
void for_each_window(const ShardValues& shard, ops::HostWindow::Use use, F&& f) {
  ShardedTensor place = shard.place;
  if (place.data != nullptr) return f(place);
  const int64_t row_bytes = place.columns() * static_cast<int64_t>(size_of(place.dtype));
  const int64_t step = std::max<int64_t>(1, ops::kWindowBytes / std::max<int64_t>(1, row_bytes));
  for (int64_t row = 0; row < place.row_count; row += step) {
    ShardValues rows = rows_of(shard, place.row_begin + row, std::min(step, place.row_count - row));
    ops::HostWindow window(rows.values, use);
    rows.place.data = window.bytes().data();
    f(rows.place);
    if (use == ops::HostWindow::Use::kFill) window.commit();
  }
}

}  // namespace

void read_in_windows(const ShardValues& shard,
                     const std::function<void(const ShardedTensor&)>& use) {
  for_each_window(shard, ops::HostWindow::Use::kRead, use);
}

void fill_in_windows(const ShardValues& shard, const std::function<void(ShardedTensor&)>& fill) {
  for_each_window(shard, ops::HostWindow::Use::kFill, fill);
}

}  // namespace sutor
