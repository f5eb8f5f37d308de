// How often each number stands in a tensor.
#pragma once

#include "csrc/ops/backend.h"

namespace sutor::ops {

namespace cpu {
at::Tensor number_counts(const at::Tensor& number, int64_t count);
}
namespace cuda {
at::Tensor number_counts(const at::Tensor& number, int64_t count);
}

// number: int64, any shape, of 0 .. count - 1. Returns int64 [count]. Reads nothing on the host.
inline at::Tensor number_counts(const at::Tensor& number, int64_t count) {
  const bool on_cuda = is_on_cuda({&number});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::number_counts(number, count);
  }
  return cpu::number_counts(number, count);
}

}  // namespace sutor::ops
