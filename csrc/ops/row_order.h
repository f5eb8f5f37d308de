// The order of routed rows: the choices of tokens, sorted by where they go.
#pragma once

#include "csrc/ops/backend.h"

namespace sutor::ops {

// Choice i = t * K + k is the k-th of token t. Row r is the place of a choice in the order.
struct RowOrder {
  at::Tensor position;  // int64 [T * K]: the row of each choice
  at::Tensor choice_R;  // int64 [R]: the choice of each row, the inverse
  at::Tensor offsets;   // int64 [slots + 1]: slot s has rows [offsets[s], offsets[s + 1])
};

namespace cpu {
RowOrder order_by_slot(const at::Tensor& number, const at::Tensor& slot_of_number, int64_t slots);
}
namespace cuda {
RowOrder order_by_slot(const at::Tensor& number, const at::Tensor& slot_of_number, int64_t slots);
}

// number: int64, any shape, contiguous: the expert (or other number) of each choice.
// slot_of_number: int64, from such a number to its slot, of `slots`; on the same device. Within a
// slot choices keep their order. Reads nothing on the host.
inline RowOrder order_by_slot(const at::Tensor& number, const at::Tensor& slot_of_number,
                              int64_t slots) {
  const bool on_cuda = is_on_cuda({&number, &slot_of_number});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::order_by_slot(number, slot_of_number, slots);
  }
  return cpu::order_by_slot(number, slot_of_number, slots);
}

}  // namespace sutor::ops
