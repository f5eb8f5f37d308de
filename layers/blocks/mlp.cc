#include "layers/blocks/mlp.h"

#include <torch/csrc/autograd/custom_function.h>

#include "csrc/ops/swiglu.h"

namespace sutor {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

class SwigluFunction : public torch::autograd::Function<SwigluFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate, const at::Tensor& up) {
    ctx->save_for_backward({gate, up});
    return ops::swiglu(gate, up);
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const ops::SwigluGradients d = ops::swiglu_gradients(saved[0], saved[1], grads[0].contiguous());
    return {d.gate, d.up};
  }
};

}  // namespace

at::Tensor Mlp::forward(const at::Tensor& x) const {
  return down_.forward(SwigluFunction::apply(gate_.forward(x), up_.forward(x)));
}

}  // namespace sutor
