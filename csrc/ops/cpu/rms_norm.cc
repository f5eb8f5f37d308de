#include "csrc/ops/rms_norm.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "csrc/ops/cpu/torch_ops.h"

namespace sutor::ops::cpu {

Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                bool round_before_weight) {
  const int64_t cols = weight.numel(), rows = x.numel() / cols;
  const Normed result{at::empty_like(x), at::empty({rows}, x.options().dtype(at::kFloat))};
  if (x.is_meta()) return result;
  dispatch_dtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    parallel(rows, 16, [&](int64_t begin, int64_t end) {
      rms_norm_forward(data<T>(x) + begin * cols, data<T>(weight), data<T>(result.y) + begin * cols,
                       result.rstd.data_ptr<float>() + begin, end - begin, cols,
                       static_cast<float>(eps), round_before_weight);
    });
  });
  return result;
}

at::Tensor rms_norm_input_gradient(const at::Tensor& dy, const at::Tensor& x,
                                   const at::Tensor& weight, const at::Tensor& rstd) {
  const int64_t cols = weight.numel(), rows = x.numel() / cols;
  at::Tensor dx = at::empty_like(x);
  if (x.is_meta()) return dx;
  dispatch_dtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    parallel(rows, 16, [&](int64_t begin, int64_t end) {
      rms_norm_backward(data<T>(dy) + begin * cols, data<T>(x) + begin * cols, data<T>(weight),
                        rstd.data_ptr<float>() + begin, data<T>(dx) + begin * cols, end - begin,
                        cols);
    });
  });
  return dx;
}

}  // namespace sutor::ops::cpu
