#include "csrc/ops/rms_norm.h"

#include "csrc/ops/cuda/kernels/rms_norm.h"
#include "csrc/ops/cuda/tensors.h"

namespace sutor::ops::cuda {

Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                bool round_before_weight) {
  const int64_t cols = weight.size(0), rows = x.numel() / cols;
  Normed normed{at::empty_like(x), at::empty({rows}, x.options().dtype(at::kFloat))};
  dispatch_dtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    on_stream([&](cudaStream_t stream) {
      launch_rms_norm(data<T>(x), data<T>(weight), data<T>(normed.y), data<float>(normed.rstd),
                      rows, cols, static_cast<float>(eps), round_before_weight, stream);
    });
  });
  return normed;
}

at::Tensor rms_norm_input_gradient(const at::Tensor& dy, const at::Tensor& x,
                                   const at::Tensor& weight, const at::Tensor& rstd) {
  const int64_t cols = weight.size(0), rows = x.numel() / cols;
  at::Tensor dx = at::empty_like(x);
  dispatch_dtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    on_stream([&](cudaStream_t stream) {
      launch_rms_norm_gradient(data<T>(dy), data<T>(x), data<T>(weight), data<float>(rstd),
                               data<T>(dx), rows, cols, stream);
    });
  });
  return dx;
}

}  // namespace sutor::ops::cuda
