#include "layers/blocks/mlp.h"

#include <torch/csrc/autograd/custom_function.h>

#include "csrc/ops/cpu/gated_kernels.h"
#include "csrc/ops/cpu/torch_ops.h"

namespace sutor {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

class SwigluFunction : public torch::autograd::Function<SwigluFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate, const at::Tensor& up) {
    ctx->save_for_backward({gate, up});
    at::Tensor out = at::empty_like(gate);
    const int64_t width = gate.size(-1), rows = gate.numel() / width;
    ops::dispatch_dtype(gate.scalar_type(), [&](auto t) {
      using T = decltype(t);
      ops::parallel(rows, 16, [&](int64_t begin, int64_t end) {
        const int64_t at = begin * width;
        ops::activation_forward({}, ops::data<T>(gate) + at, ops::data<T>(up) + at, width, nullptr,
                                ops::data<T>(out) + at, end - begin, width);
      });
    });
    return out;
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &gate = saved[0], &up = saved[1];
    const at::Tensor d_out = grads[0].contiguous();
    at::Tensor d_gate = at::empty_like(gate), d_up = at::empty_like(up);
    const int64_t width = gate.size(-1), rows = gate.numel() / width;
    ops::dispatch_dtype(gate.scalar_type(), [&](auto t) {
      using T = decltype(t);
      ops::parallel(rows, 16, [&](int64_t begin, int64_t end) {
        const int64_t at = begin * width;
        ops::activation_backward<T>({}, ops::data<T>(gate) + at, ops::data<T>(up) + at, width,
                                    nullptr, ops::data<T>(d_out) + at, ops::data<T>(d_gate) + at,
                                    ops::data<T>(d_up) + at, nullptr, nullptr, end - begin, width);
      });
    });
    return {d_gate, d_up};
  }
};

}  // namespace

at::Tensor Mlp::forward(const at::Tensor& x) const {
  return down_.forward(SwigluFunction::apply(gate_.forward(x), up_.forward(x)));
}

}  // namespace sutor
