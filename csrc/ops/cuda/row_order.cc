// By torch's stable sort: nothing is read on the host.
#include "csrc/ops/row_order.h"

#include <torch/types.h>

#include <tuple>

namespace sutor::ops::cuda {

RowOrder order_by_slot(const at::Tensor& number, const at::Tensor& slot_of_number, int64_t slots) {
  const int64_t rows = number.numel();
  const auto options = number.options();
  if (rows == 0) {
    return {at::empty({0}, options), at::empty({0}, options), at::zeros({slots + 1}, options)};
  }
  // In int32, which sorts in half the passes.
  const at::Tensor slot = slot_of_number.index_select(0, number.reshape({rows})).to(at::kInt);
  const auto [sorted, choice_R] = at::sort(slot, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  at::Tensor position = at::empty({rows}, options);
  position.scatter_(0, choice_R, at::arange(rows, options));
  const at::Tensor every_slot = at::arange(slots + 1, sorted.options());
  return {position, choice_R, at::searchsorted(sorted, every_slot)};
}

}  // namespace sutor::ops::cuda
