#include "layers/blocks/rms_norm.h"

#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include "csrc/ops/rms_norm.h"

namespace sutor {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

class RmsNormFunction : public torch::autograd::Function<RmsNormFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            double eps, bool round_before_weight) {
    const ops::Normed normed = ops::rms_norm(x, weight, eps, round_before_weight);
    ctx->save_for_backward({x, weight, normed.rstd});
    return normed.y;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &rstd = saved[2];
    const at::Tensor dy = grads[0].contiguous();
    const int64_t cols = weight.numel(), rows = x.numel() / cols;
    at::Tensor dx, dw;
    if (ctx->needs_input_grad(0)) dx = ops::rms_norm_input_gradient(dy, x, weight, rstd);
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
  // The sum over the ranks; its gradient is a sum over the ranks as well.
  const at::Tensor squares = tensor_parallel_.enter(
      tensor_parallel_.leave(wide.square().sum(-1, /*keepdim=*/true), rows), rows);
  const auto cols = static_cast<double>(weight_.global_shape[0]);
  const at::Tensor normed = wide * (squares / cols + options_.eps).rsqrt();
  if (options_.round_before_weight) return normed.to(x.scalar_type()) * weight_.value;
  return (normed * weight_.value).to(x.scalar_type());
}

}  // namespace sutor
