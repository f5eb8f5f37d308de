#include "layers/moe/moe_layer.h"

#include <torch/csrc/autograd/custom_function.h>

#include "csrc/base/profile.h"
#include "csrc/ops/device/memory.h"
#include "csrc/ops/shapes/planned_routing.h"
#include "layers/moe/balance_loss.h"

namespace sutor {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// What the backward pass of the routed experts needs.
struct RoutedState : torch::CustomClassHolder {
  const GroupedExperts* experts = nullptr;
  const TokenDispatcher* dispatcher = nullptr;
  Dispatched dispatched;
  ops::ExpertsSaved saved;
};

// Dispatch, experts and combine as one node of the graph: its collectives run in a fixed order,
// whatever experts this rank owns. `anchor` requires a gradient exactly where the plan says that
// the layer has a backward pass, so that all ranks of the group enter it or none does.
class RoutedExpertsFunction : public torch::autograd::Function<RoutedExpertsFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& topk_weights, const at::Tensor& anchor,
                            const at::Tensor& topk_idx, const GroupedExperts* experts,
                            const TokenDispatcher* dispatcher, int64_t layer, bool keep) {
    const ops::MemoryScope memory(ops::MemoryItem::kDispatch);
    const ops::PlannedLayer planned(layer);
    auto state = c10::make_intrusive<RoutedState>();
    state->experts = experts;
    state->dispatcher = dispatcher;
    {
      const ProfileScope scope("dispatch");
      state->dispatched = dispatcher->dispatch(x, topk_idx, topk_weights.contiguous(),
                                               static_cast<int>(layer), experts->storage().slots);
    }
    const at::Tensor rows = experts->forward(state->dispatched, keep ? &state->saved : nullptr);
    const ProfileScope scope("combine");
    at::Tensor y = dispatcher->combine(rows, *state->dispatched.handle);
    if (keep) {
      state->dispatched.source = at::Tensor();  // the backward pass dispatches into a new one
      ctx->saved_data["state"] = c10::IValue::make_capsule(std::move(state));
    }
    return y;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const ops::MemoryScope memory(ops::MemoryItem::kDispatch);
    const c10::IValue capsule = ctx->saved_data["state"];
    const auto state = c10::static_intrusive_pointer_cast<RoutedState>(capsule.toCapsule());
    const DispatchHandle& handle = *state->dispatched.handle;
    const bool want_x = ctx->needs_input_grad(0), want_weights = ctx->needs_input_grad(1);
    const at::Tensor d_source =
        state->dispatcher->dispatch_gradients(grads[0].contiguous(), handle);
    ops::ExpertsGradients g =
        state->experts->backward(state->dispatched, state->saved, d_source, want_x, want_weights);
    state->saved = {};
    const ProfileScope scope("combine, backward");
    at::Tensor dx, dw;
    if (want_x) dx = state->dispatcher->combine(g.rows, handle);
    if (want_weights) dw = state->dispatcher->combine_weight_gradients(g.weights_R, handle);
    ctx->saved_data.erase("state");
    return {dx,           dw,           at::Tensor(), at::Tensor(),
            at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

// y = x; `extra` is a scalar that is added to the loss, so its gradient is 1.
class JoinLossFunction : public torch::autograd::Function<JoinLossFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& extra) {
    ctx->saved_data["extra"] = extra.detach();
    return x.view_as(x);
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    return {grads[0], at::ones_like(ctx->saved_data["extra"].toTensor())};
  }
};

}  // namespace

MoeLayer::MoeLayer(ParameterStore& store, int layer, const std::string& prefix,
                   const MoeOptions& options)
    : tensor_parallel_(store.tensor_parallel()),
      parallel_(store.parallel()),
      layer_(layer),
      router_(store, prefix + "." + options.gate, options.router),
      experts_(store.experts(layer), options.activation),
      dispatcher_(make_dispatcher(store.parallel())) {
  if (options.shared.empty()) return;
  shared_.emplace(store, prefix + "." + options.shared);
  if (!options.shared_gate.empty()) shared_gate_.emplace(store, prefix + "." + options.shared_gate);
}

// Each rank routes its own range of the rows, so that no token is computed twice; shared experts
// are sharded by their width as other MLPs are.
at::Tensor MoeLayer::forward(const at::Tensor& x, ForwardContext& context) const {
  const int64_t tokens = context.batch.num_tokens();
  const at::Tensor own = tensor_parallel_.own_rows(x, tokens);
  const Routing routing = [&] {
    const ProfileScope scope("router");
    return router_.forward(own, mask_of(context));
  }();
  if (context.on_routing) {
    context.on_routing(layer_, routing.topk_idx, routing.topk_weights.detach(), routing.unscaled);
  }
  const at::Tensor weights = with_balance_loss(routing, context);
  const bool keep = at::GradMode::is_enabled() && layer_ >= context.lowest_layer;
  const at::Tensor anchor = at::zeros({1}, own.options().dtype(at::kFloat)).set_requires_grad(keep);
  const at::Tensor routed =
      RoutedExpertsFunction::apply(own, weights, anchor, routing.topk_idx, &experts_,
                                   dispatcher_.get(), static_cast<int64_t>(layer_), keep);
  const at::Tensor y = tensor_parallel_.all_rows(routed, tokens);
  if (!shared_) return y;
  const ProfileScope scope("shared experts");
  const at::Tensor shared = shared_experts(tensor_parallel_.enter(x, tokens));
  return y + tensor_parallel_.leave(shared, tokens);
}

// A partial sum, from this rank's shard of the width; the gate scales it as it would the sum.
at::Tensor MoeLayer::shared_experts(const at::Tensor& x) const {
  const at::Tensor y = shared_->forward(x);
  return shared_gate_ ? at::sigmoid(shared_gate_->forward(x)) * y : y;
}

// [E]: the experts that this layer may choose; undefined for all.
at::Tensor MoeLayer::mask_of(const ForwardContext& context) const {
  if (context.expert_mask == nullptr) return {};
  const auto found = context.expert_mask->find(layer_);
  return found == context.expert_mask->end() ? at::Tensor() : found->second;
}

at::Tensor MoeLayer::with_balance_loss(const Routing& routing, ForwardContext& context) const {
  const BalanceTerms& terms = context.balance;
  if (terms.weight == 0) return routing.topk_weights;
  const at::Tensor factors =
      balance_factors(routing.topk_idx, routing.probabilities.size(1), layer_, terms, parallel_);
  const at::Tensor loss = (routing.probabilities * factors).sum();
  const at::Tensor value = loss.detach().to(at::kDouble);
  context.balance_loss = context.balance_loss.defined() ? context.balance_loss + value : value;
  if (!loss.requires_grad()) return routing.topk_weights;
  return JoinLossFunction::apply(routing.topk_weights, loss);
}

}  // namespace sutor
