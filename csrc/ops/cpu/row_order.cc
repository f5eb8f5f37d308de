#include "csrc/ops/row_order.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <numeric>
#include <vector>

#include "csrc/ops/shapes/shapes.h"

namespace sutor::ops::cpu {

RowOrder order_by_slot(const at::Tensor& number, const at::Tensor& slot_of_number, int64_t slots) {
  if (number.is_meta()) return shapes::order_by_slot(number, slot_of_number, slots);
  const int64_t count = number.numel();
  const auto longs = [&](int64_t n) { return at::empty({n}, number.options()); };
  const RowOrder order{longs(count), longs(count), longs(slots + 1)};
  const int64_t* numbers = number.data_ptr<int64_t>();
  const int64_t* slot = slot_of_number.data_ptr<int64_t>();
  int64_t* offsets = order.offsets.data_ptr<int64_t>();
  std::fill(offsets, offsets + slots + 1, 0);
  for (int64_t i = 0; i < count; ++i) ++offsets[slot[numbers[i]] + 1];
  std::partial_sum(offsets, offsets + slots + 1, offsets);
  std::vector<int64_t> next(offsets, offsets + slots);
  int64_t* position = order.position.data_ptr<int64_t>();
  int64_t* choice = order.choice_R.data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i) {
    position[i] = next[static_cast<size_t>(slot[numbers[i]])]++;
    choice[position[i]] = i;
  }
  return order;
}

}  // namespace sutor::ops::cpu
