#include "csrc/ops/swiglu.h"

#include "csrc/ops/cuda/kernels/gated.h"
#include "csrc/ops/cuda/tensors.h"

namespace sutor::ops::cuda {

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  at::Tensor out = at::empty_like(gate);
  dispatch_dtype(gate.scalar_type(), [&](auto t) {
    using T = decltype(t);
    on_stream([&](cudaStream_t stream) {
      launch_swiglu(data<T>(gate), data<T>(up), data<T>(out), gate.numel(), stream);
    });
  });
  return out;
}

SwigluGradients swiglu_gradients(const at::Tensor& gate, const at::Tensor& up,
                                 const at::Tensor& d_out) {
  SwigluGradients to{at::empty_like(gate), at::empty_like(up)};
  dispatch_dtype(gate.scalar_type(), [&](auto t) {
    using T = decltype(t);
    on_stream([&](cudaStream_t stream) {
      launch_swiglu_gradients(data<T>(gate), data<T>(up), data<T>(d_out), data<T>(to.gate),
                              data<T>(to.up), gate.numel(), stream);
    });
  });
  return to;
}

}  // namespace sutor::ops::cuda
