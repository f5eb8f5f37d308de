#include "layers/blocks/rms_norm.h"

#include <torch/csrc/autograd/custom_function.h>

#include "csrc/ops/cpu/torch_ops.h"

namespace sutor {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

class RmsNormFunction : public torch::autograd::Function<RmsNormFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            double eps, bool round_before_weight) {
    const int64_t cols = weight.numel(), rows = x.numel() / cols;
    at::Tensor y = at::empty_like(x);
    at::Tensor rstd = at::empty({rows}, x.options().dtype(at::kFloat));
    ops::dispatch_dtype(x.scalar_type(), [&](auto t) {
      using T = decltype(t);
      ops::parallel(rows, 16, [&](int64_t begin, int64_t end) {
        ops::rms_norm_forward(ops::data<T>(x) + begin * cols, ops::data<T>(weight),
                              ops::data<T>(y) + begin * cols, rstd.data_ptr<float>() + begin,
                              end - begin, cols, static_cast<float>(eps), round_before_weight);
      });
    });
    ctx->save_for_backward({x, weight, rstd});
    return y;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &rstd = saved[2];
    const at::Tensor dy = grads[0].contiguous();
    const int64_t cols = weight.numel(), rows = x.numel() / cols;
    at::Tensor dx, dw;
    if (ctx->needs_input_grad(0)) {
      dx = at::empty_like(x);
      ops::dispatch_dtype(x.scalar_type(), [&](auto t) {
        using T = decltype(t);
        ops::parallel(rows, 16, [&](int64_t begin, int64_t end) {
          ops::rms_norm_backward(ops::data<T>(dy) + begin * cols, ops::data<T>(x) + begin * cols,
                                 ops::data<T>(weight), rstd.data_ptr<float>() + begin,
                                 ops::data<T>(dx) + begin * cols, end - begin, cols);
        });
      });
    }
    if (ctx->needs_input_grad(1)) {
      const at::Tensor normed = x.reshape({rows, cols}).to(at::kFloat) * rstd.unsqueeze(1);
      dw = (dy.reshape({rows, cols}).to(at::kFloat) * normed).sum(0).to(weight.scalar_type());
    }
    return {dx, dw, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor RmsNorm::forward(const at::Tensor& x) const {
  if (weight_.split.axis != TensorSplit::Axis::kNone) return forward_sharded(x);
  return RmsNormFunction::apply(x.contiguous(), weight_.value, options_.eps,
                                options_.round_before_weight);
}

at::Tensor RmsNorm::forward_sharded(const at::Tensor& x) const {
  const int64_t rows = x.size(0);
  const at::Tensor wide = x.to(at::kFloat);
  // The sum over the ranks, whose gradient is a sum over the ranks again.
  const at::Tensor squares = tensor_parallel_.enter(
      tensor_parallel_.leave(wide.square().sum(-1, /*keepdim=*/true), rows), rows);
  const auto cols = static_cast<double>(weight_.global_shape[0]);
  const at::Tensor normed = wide * (squares / cols + options_.eps).rsqrt();
  if (options_.round_before_weight) return normed.to(x.scalar_type()) * weight_.value;
  return (normed * weight_.value).to(x.scalar_type());
}

}  // namespace sutor
