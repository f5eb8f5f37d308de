#include "layers/shards/shard_values.h"

#include <torch/types.h>

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

namespace {

// Calls f(rows, their values) for runs of rows that fit in a window.
template <typename F>
void for_each_window(const ShardValues& shard, F&& f) {
  const ShardedTensor& place = shard.place;
  const int64_t columns = place.columns();
  const int64_t row_bytes = columns * static_cast<int64_t>(size_of(place.dtype));
  const int64_t step = std::max<int64_t>(1, ops::kWindowBytes / std::max<int64_t>(1, row_bytes));
  const at::Tensor flat = shard.values.view({-1});
  for (int64_t row = 0; row < place.row_count; row += step) {
    ShardedTensor rows = place;
    rows.row_begin = place.row_begin + row;
    rows.row_count = std::min(step, place.row_count - row);
    f(rows, flat.narrow(0, row * columns, rows.row_count * columns));
  }
}

}  // namespace

void read_in_windows(const ShardValues& shard,
                     const std::function<void(const ShardedTensor&)>& use) {
  if (shard.place.data != nullptr) return use(shard.place);
  for_each_window(shard, [&](ShardedTensor& rows, const at::Tensor& values) {
    const ops::HostWindow window(values, ops::HostWindow::Use::kRead);
    rows.data = window.bytes().data();
    use(rows);
  });
}

void read_rows(const ShardValues& shard, const ShardedTensor& rows,
               const std::function<void(const ShardedTensor&)>& use) {
  const int64_t columns = shard.place.columns();
  const ops::HostWindow window(
      shard.values.view({-1}).narrow(0, (rows.row_begin - shard.place.row_begin) * columns,
                                     rows.row_count * columns),
      ops::HostWindow::Use::kRead);
  ShardedTensor in_window = rows;
  in_window.data = window.bytes().data();
  use(in_window);
}

void fill_in_windows(const ShardValues& shard, const std::function<void(ShardedTensor&)>& fill) {
  if (shard.place.data != nullptr) {
    ShardedTensor place = shard.place;
    return fill(place);
  }
  for_each_window(shard, [&](ShardedTensor& rows, const at::Tensor& values) {
    ops::HostWindow window(values, ops::HostWindow::Use::kFill);
    rows.data = window.bytes().data();
    fill(rows);
    window.commit();
  });
}

}  // namespace sutor
