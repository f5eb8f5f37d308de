// Sums in double whose bits do not depend on threads.
#pragma once

#include "csrc/ops/backend.h"

namespace sutor::ops {

namespace cpu {
at::Tensor sum_in_order(const at::Tensor& x);
at::Tensor sum_of_squares(const at::Tensor& x);
}  // namespace cpu
namespace cuda {
at::Tensor sum_in_order(const at::Tensor& x);
at::Tensor sum_of_squares(const at::Tensor& x);
}  // namespace cuda

// The sum of x, fp32 [n], in double: a scalar tensor where x is. In order on the CPU; on a GPU in
// an order of its own, the same at every call.
inline at::Tensor sum_in_order(const at::Tensor& x) {
  const bool on_cuda = is_on_cuda({&x});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::sum_in_order(x);
  }
  return cpu::sum_in_order(x);
}

// The sum of the squares of x, fp32 [n], likewise.
inline at::Tensor sum_of_squares(const at::Tensor& x) {
  const bool on_cuda = is_on_cuda({&x});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::sum_of_squares(x);
  }
  return cpu::sum_of_squares(x);
}

}  // namespace sutor::ops
