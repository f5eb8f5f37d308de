#include "launch/train/passes/microbatch_state.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/AutogradState.h>
#include <torch/csrc/autograd/autograd.h>

#include "csrc/base/profile.h"
#include "launch/train/losses/source_losses.h"
#include "layers/moe/balance_loss.h"

namespace sutor {
namespace {

void run_backward(const at::Tensor& out, const at::Tensor& grad) {
  const ProfileScope scope("layers, backward");
  // Autograd gives the backward pass of an accelerator's tensors to a thread of its own, but only
  // this thread communicates.
  c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
  torch::autograd::backward({out}, {grad});
}

}  // namespace

MicrobatchState::MicrobatchState(const CausalModel& model, ParameterStore& store,
                                 const MicroBatch& micro_batch, const PipelineOptions& options)
    : model_(model),
      store_(store),
      options_(options),
      micro_batch_(micro_batch),
      batch_(make_context_batch(micro_batch.ids, micro_batch.doc_offsets, model.parallel().cp(),
                                model.device())),
      context_{.batch = batch_},
      tables_(model.tables(batch_)) {
  targets_ = own_values(batch_, micro_batch.targets);
  if (options.sources > 0) sources_ = own_values(batch_, micro_batch.sources);
  context_.balance =
      balance_terms(options.balance, batch_, store.tensor_parallel(), model.device());
  context_.lowest_layer = options.lowest_layer;
  context_.on_routing = options.on_routing;
}

at::Tensor MicrobatchState::forward(const at::Tensor& input) {
  at::Tensor x = input;
  if (model_.parallel().is_first_stage()) {
    at::AutoGradMode mode(options_.lowest_layer < 0);
    x = embedded_ = model_.embed(batch_);
    show(-1, x);
  }
  for (const int layer : model_.layers()) x = forward_layer(layer, x);
  if (!model_.parallel().is_last_stage()) return x.detach();
  compute_loss(x);
  return {};
}

at::Tensor MicrobatchState::forward_layer(int layer, const at::Tensor& x) {
  using Part = CausalModel::Part;
  // Whether the halves of the lowest layer have a backward pass depends on what trains there.
  if (options_.recompute == Recompute::kAttention && layer > options_.lowest_layer) {
    const at::Tensor h = forward_part(layer, Part::kAttention, x, /*keep=*/false);
    return forward_part(layer, Part::kFeedForward, h, /*keep=*/true);
  }
  return forward_part(layer, Part::kLayer, x, options_.recompute != Recompute::kLayer);
}

at::Tensor MicrobatchState::forward_part(int layer, CausalModel::Part part, const at::Tensor& x,
                                         bool keep) {
  const bool has_backward = layer >= options_.lowest_layer;
  at::AutoGradMode mode(has_backward && keep);
  const at::Tensor in = x.detach();
  if (has_backward) in.requires_grad_(layer > options_.lowest_layer);
  const at::Tensor out = model_.layer(layer, part, in, context_, tables_);
  show(layer, out);
  if (has_backward) layer_graphs_.push_back({layer, part, in, keep ? out : at::Tensor()});
  return out;
}

void MicrobatchState::show(int layer, const at::Tensor& rows) const {
  if (options_.on_rows) options_.on_rows(micro_batch_, layer, rows);
}

// The same bits as in the forward pass; its tokens and its part of the balance loss are counted
// already.
at::Tensor MicrobatchState::forward_again(const LayerGraph& graph) {
  const ProfileScope scope("recomputation");
  const at::Tensor balance_loss = context_.balance_loss;
  context_.on_routing = nullptr;
  const at::Tensor out = model_.layer(graph.layer, graph.part, graph.in, context_, tables_);
  context_.balance_loss = balance_loss;
  return out;
}

void MicrobatchState::compute_loss(const at::Tensor& x) {
  at::AutoGradMode mode(true);
  last_ = x.detach().requires_grad_(options_.lowest_layer < store_.model().num_layers);
  normed_ = model_.final_norm(last_, batch_.num_tokens());
  loss_ = head_loss(normed_.detach(), targets_, model_.head(), store_.tensor_parallel(),
                    options_.loss_scale, /*gradient=*/true);
  show(store_.model().num_layers, loss_.losses);
  if (options_.sources > 0) {
    source_losses_ = sums_by_source(loss_.losses, targets_, sources_, options_.sources);
  }
  loss_.losses = at::Tensor();
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
    run_backward(graph.out.defined() ? graph.out : forward_again(graph), grad);
    grad = graph.in.grad();
    if (graph.part == CausalModel::Part::kFeedForward) continue;  // the other half follows
    store_.collect_gradients(graph.layer);
    if (last) store_.layer_complete(graph.layer);
  }
  if (model_.parallel().is_first_stage() && options_.lowest_layer < 0) {
    run_backward(embedded_, grad);
    store_.collect_gradients(-1);
    return {};
  }
  return grad;
}

}  // namespace sutor
