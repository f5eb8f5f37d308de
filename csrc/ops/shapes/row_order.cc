#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "csrc/ops/shapes/planned_routing.h"
#include "csrc/ops/shapes/shapes.h"

namespace sutor::ops::shapes {

RowOrder order_by_slot(const at::Tensor& number, const at::Tensor& slot_of_number, int64_t slots) {
  const int64_t count = number.numel(), numbers = slot_of_number.numel();
  const at::Tensor host = at::zeros({slots + 1}, at::kLong);
  const RowOrder order{at::empty({count}, number.options()), at::empty({count}, number.options()),
                       host};
  int64_t* offsets = host.data_ptr<int64_t>();
  const bool itself = slot_of_number.is_meta();
  const int64_t* slot = itself ? nullptr : slot_of_number.data_ptr<int64_t>();
  const std::vector<int64_t> counts = planned_counts(count, numbers);
  for (int64_t i = 0; i < numbers; ++i) {
    const int64_t at = itself ? i : slot[i];
    if (at >= 0) offsets[at + 1] += counts[static_cast<size_t>(i)];
  }
  for (int64_t s = 0; s < slots; ++s) offsets[s + 1] += offsets[s];
  return order;
}

}  // namespace sutor::ops::shapes
