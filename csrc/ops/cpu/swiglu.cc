#include "csrc/ops/swiglu.h"

#include <ATen/ops/empty_like.h>

#include "csrc/ops/cpu/gated_kernels.h"
#include "csrc/ops/cpu/torch_ops.h"

namespace sutor::ops::cpu {

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  at::Tensor out = at::empty_like(gate);
  if (gate.is_meta()) return out;
  const int64_t width = gate.size(-1), rows = gate.numel() / width;
  dispatch_dtype(gate.scalar_type(), [&](auto t) {
    using T = decltype(t);
    parallel(rows, 16, [&](int64_t begin, int64_t end) {
      const int64_t at = begin * width;
      activation_forward({}, data<T>(gate) + at, data<T>(up) + at, width, nullptr,
                         data<T>(out) + at, end - begin, width);
    });
  });
  return out;
}

SwigluGradients swiglu_gradients(const at::Tensor& gate, const at::Tensor& up,
                                 const at::Tensor& d_out) {
  const SwigluGradients d{at::empty_like(gate), at::empty_like(up)};
  if (gate.is_meta()) return d;
  const int64_t width = gate.size(-1), rows = gate.numel() / width;
  dispatch_dtype(gate.scalar_type(), [&](auto t) {
    using T = decltype(t);
    parallel(rows, 16, [&](int64_t begin, int64_t end) {
      const int64_t at = begin * width;
      activation_backward<T>({}, data<T>(gate) + at, data<T>(up) + at, width, nullptr,
                             data<T>(d_out) + at, data<T>(d.gate) + at, data<T>(d.up) + at, nullptr,
                             nullptr, end - begin, width);
    });
  });
  return d;
}

}  // namespace sutor::ops::cpu
