// silu(gate) * up of a dense MLP, and its gradient; in fp32, rounded once.
#pragma once

#include "csrc/ops/backend.h"

namespace sutor::ops {

struct SwigluGradients {
  at::Tensor gate, up;
};

namespace cpu {
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);
SwigluGradients swiglu_gradients(const at::Tensor& gate, const at::Tensor& up,
                                 const at::Tensor& d_out);
}  // namespace cpu
namespace cuda {
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);
SwigluGradients swiglu_gradients(const at::Tensor& gate, const at::Tensor& up,
                                 const at::Tensor& d_out);
}  // namespace cuda

// gate, up [..., width], contiguous, fp32 or bf16, any number of rows.
inline at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  const bool on_cuda = is_on_cuda({&gate, &up});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::swiglu(gate, up);
  }
  return cpu::swiglu(gate, up);
}

// d_out as gate, contiguous.
inline SwigluGradients swiglu_gradients(const at::Tensor& gate, const at::Tensor& up,
                                        const at::Tensor& d_out) {
  const bool on_cuda = is_on_cuda({&gate, &up, &d_out});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::swiglu_gradients(gate, up, d_out);
  }
  return cpu::swiglu_gradients(gate, up, d_out);
}

}  // namespace sutor::ops
