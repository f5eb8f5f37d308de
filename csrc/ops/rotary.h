// Rotary position embedding of the rows of heads.
#pragma once

#include "csrc/ops/backend.h"

namespace sutor::ops {

namespace cpu {
at::Tensor rotated(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                   int64_t offset, bool interleaved, bool back);
}
namespace cuda {
at::Tensor rotated(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                   int64_t offset, bool interleaved, bool back);
}

// x [T, heads, d], contiguous, fp32 or bf16. Rotates the dimensions [offset, offset + width) of
// every head by the angles whose fp32 cos and sin [T, width / 2] are given, and copies the others;
// in fp32, rounded once. Pairs are (2j, 2j + 1) when `interleaved`, else (j, j + width / 2).
// `back`: by the opposite angles, as the gradient is.
inline at::Tensor rotated(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                          int64_t offset, bool interleaved, bool back) {
  const bool on_cuda = is_on_cuda({&x, &cos, &sin});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::rotated(x, cos, sin, offset, interleaved, back);
  }
  return cpu::rotated(x, cos, sin, offset, interleaved, back);
}

}  // namespace sutor::ops
