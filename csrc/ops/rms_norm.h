// RMS norm of rows: y = w * T(x * rstd), or T(w * x * rstd) where it is not rounded before the
// weight; rstd = 1 / sqrt(mean(x^2) + eps). T is the dtype of x, fp32 or bf16; sums are fp32.
#pragma once

#include "csrc/ops/backend.h"

namespace sutor::ops {

struct Normed {
  at::Tensor y;     // as x
  at::Tensor rstd;  // fp32 [rows]
};

namespace cpu {
Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                bool round_before_weight);
at::Tensor rms_norm_input_gradient(const at::Tensor& dy, const at::Tensor& x,
                                   const at::Tensor& weight, const at::Tensor& rstd);
}  // namespace cpu
namespace cuda {
Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                bool round_before_weight);
at::Tensor rms_norm_input_gradient(const at::Tensor& dy, const at::Tensor& x,
                                   const at::Tensor& weight, const at::Tensor& rstd);
}  // namespace cuda

// x [..., cols] contiguous, any number of rows; weight [cols], of x's dtype.
inline Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                       bool round_before_weight) {
  const bool on_cuda = is_on_cuda({&x, &weight});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::rms_norm(x, weight, eps, round_before_weight);
  }
  return cpu::rms_norm(x, weight, eps, round_before_weight);
}

// dx of the above, of which x, weight and rstd are; dy as x, contiguous.
inline at::Tensor rms_norm_input_gradient(const at::Tensor& dy, const at::Tensor& x,
                                          const at::Tensor& weight, const at::Tensor& rstd) {
  const bool on_cuda = is_on_cuda({&dy, &x, &weight, &rstd});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::rms_norm_input_gradient(dy, x, weight, rstd);
  }
  return cpu::rms_norm_input_gradient(dy, x, weight, rstd);
}

}  // namespace sutor::ops
