#include "launch/train/microbatch_state.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "csrc/base/profile.h"

namespace sutor {
namespace {

void run_backward(const at::Tensor& out, const at::Tensor& grad) {
  const ProfileScope scope("layers, backward");
  torch::autograd::backward({out}, {grad});
}

}  // namespace

MicrobatchState::MicrobatchState(const CausalModel& model, ParameterStore& store,
                                 const MicroBatch& micro_batch, const MicroStepOptions& options)
    : model_(model),
      store_(store),
      options_(options),
      batch_(make_context_batch(micro_batch.ids, micro_batch.doc_offsets, model.parallel().cp())),
      context_{.batch = batch_} {
  targets_ = own_values(batch_, micro_batch.targets);
  context_.balance_weight = options.balance_weight;
  context_.lowest_layer = options.lowest_layer;
}

at::Tensor MicrobatchState::forward(const at::Tensor& input) {
  const int lowest = options_.lowest_layer;
  const Rope::Tables tables = model_.tables(batch_);
  at::Tensor x = input;
  if (model_.parallel().is_first_stage()) {
    at::AutoGradMode mode(lowest < 0);
    x = embedded_ = model_.embed(batch_);
  }
  for (const int layer : model_.layers()) {
    const bool has_backward = layer >= lowest;
    at::AutoGradMode mode(has_backward);
    const at::Tensor in = x.detach();
    if (has_backward) in.requires_grad_(layer > lowest);
    x = model_.layer(layer, in, context_, tables);
    if (has_backward) layer_graphs_.push_back({layer, in, x});
  }
  if (!model_.parallel().is_last_stage()) return x.detach();
  compute_loss(x);
  return {};
}

void MicrobatchState::compute_loss(const at::Tensor& x) {
  at::AutoGradMode mode(true);
  last_ = x.detach().requires_grad_(options_.lowest_layer < store_.model().num_layers);
  normed_ = model_.final_norm(last_, batch_.num_tokens());
  loss_ = head_loss(normed_.detach(), targets_, model_.head(), store_.tensor_parallel(),
                    options_.loss_scale, /*gradient=*/true);
}

at::Tensor MicrobatchState::backward(const at::Tensor& received, bool last) {
  at::AutoGradMode mode(true);
  at::Tensor grad = received;
  if (model_.parallel().is_last_stage()) {
    if (normed_.requires_grad()) run_backward(normed_, loss_.d_hidden);
    store_.collect_gradients(-1);
    grad = last_.grad();
    last_ = normed_ = loss_.d_hidden = at::Tensor();
  }
  while (!layer_graphs_.empty()) {
    const LayerGraph graph = std::move(layer_graphs_.back());
    layer_graphs_.pop_back();
    run_backward(graph.out, grad);
    store_.collect_gradients(graph.layer);
    if (last) store_.layer_complete(graph.layer);
    grad = graph.in.grad();
  }
  if (model_.parallel().is_first_stage() && options_.lowest_layer < 0) {
    run_backward(embedded_, grad);
    store_.collect_gradients(-1);
    return {};
  }
  return grad;
}

}  // namespace sutor
