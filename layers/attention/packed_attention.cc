#include "layers/attention/packed_attention.h"

#include <torch/csrc/autograd/custom_function.h>

#include "csrc/base/profile.h"
#include "csrc/ops/attention.h"

namespace sutor {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;
using Runs = std::shared_ptr<const ops::AttentionRuns>;

struct RunsHolder : torch::CustomClassHolder {
  explicit RunsHolder(Runs of) : runs(std::move(of)) {}
  Runs runs;
};

// Autograd accepts no undefined inputs: an empty tensor stands for one.
at::Tensor or_empty(const at::Tensor& x, const at::Tensor& like) {
  return x.defined() ? x : at::empty({0}, like.options());
}
at::Tensor or_undefined(const at::Tensor& x) { return x.numel() > 0 ? x : at::Tensor(); }

class AttentionFunction : public torch::autograd::Function<AttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& k_shared, const at::Tensor& v,
                            const at::Tensor& sinks, const Runs& runs, double scale,
                            int64_t sliding_window) {
    const ProfileScope scope("attention core");
    // Rows without any key have a shared key of no rows, which is not undefined.
    const at::Tensor shared = k_shared.dim() == 2 ? k_shared : at::Tensor();
    const ops::AttentionInputs in{q, k, shared, v, or_undefined(sinks), scale, sliding_window};
    const ops::Attended result = ops::attention(in, *runs, /*keep=*/true);
    ctx->save_for_backward({q, k, k_shared, v, result.out, result.lse, sinks});
    ctx->saved_data["runs"] = c10::IValue::make_capsule(c10::make_intrusive<RunsHolder>(runs));
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["sliding_window"] = sliding_window;
    return result.out;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grad_outputs) {
    const ProfileScope scope("attention core, backward");
    const auto saved = ctx->get_saved_variables();
    const auto holder = c10::static_intrusive_pointer_cast<RunsHolder>(
        c10::IValue(ctx->saved_data["runs"]).toCapsule());
    const at::Tensor shared = saved[2].dim() == 2 ? saved[2] : at::Tensor();
    const ops::AttentionInputs in{saved[0],
                                  saved[1],
                                  shared,
                                  saved[3],
                                  or_undefined(saved[6]),
                                  ctx->saved_data["scale"].toDouble(),
                                  ctx->saved_data["sliding_window"].toInt()};
    const ops::Attended forward{saved[4], saved[5]};
    const at::Tensor d_out = grad_outputs[0].contiguous();
    const ops::AttentionGradients d = ops::attention_gradients(in, *holder->runs, forward, d_out);
    at::Tensor d_sinks;
    if (ctx->needs_input_grad(4)) d_sinks = ops::sink_gradient(saved[6], forward, d_out);
    return {d.q, d.k, d.k_shared, d.v, d_sinks, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& k_shared,
                            const at::Tensor& v, const Runs& runs,
                            const AttentionOptions& options) {
  const at::Tensor sinks = or_empty(options.sinks, q).to(at::kFloat);
  if (at::GradMode::is_enabled()) {
    return AttentionFunction::apply(q, k, or_empty(k_shared, q), v, sinks, runs, options.scale,
                                    options.sliding_window);
  }
  const ProfileScope scope("attention core");
  const ops::AttentionInputs in{
      q, k, k_shared, v, or_undefined(sinks), options.scale, options.sliding_window};
  return ops::attention(in, *runs, /*keep=*/false).out;
}

}  // namespace sutor
