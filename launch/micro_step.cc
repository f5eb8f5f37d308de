#include "launch/micro_step.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "csrc/base/profile.h"
#include "layers/head_loss.h"

namespace sutor {
namespace {

// A layer that takes part in the backward pass: its graph runs from `in` to `out` and no further.
struct Segment {
  int layer;
  at::Tensor in, out;
};

void run_backward(const at::Tensor& out, const at::Tensor& grad) {
  const ProfileScope scope("layers, backward");
  torch::autograd::backward({out}, {grad});
}

}  // namespace

MicroStepResult forward_backward(const CausalModel& model, ParameterStore& store,
                                 const MicroBatch& micro_batch, const MicroStepOptions& options) {
  const PackedBatch batch = make_packed_batch(micro_batch.ids, micro_batch.doc_offsets);
  ForwardContext context{.batch = batch};
  context.balance_weight = options.balance_weight;
  context.lowest_layer = options.lowest_layer;
  const Rope::Tables tables = model.tables(batch);
  const int lowest = options.lowest_layer;

  at::Tensor embedded;
  {
    at::AutoGradMode mode(lowest < 0);
    embedded = model.embed(batch);
  }
  std::vector<Segment> segments;
  at::Tensor x = embedded;
  for (int layer = 0; layer < model.num_layers(); ++layer) {
    const bool has_backward = layer >= lowest;
    at::AutoGradMode mode(has_backward);
    const at::Tensor in = x.detach();
    if (has_backward) in.requires_grad_(layer > lowest);
    x = model.layer(layer, in, context, tables);
    if (has_backward) segments.push_back({layer, in, x});
  }
  at::AutoGradMode mode(true);
  const at::Tensor last = x.detach().requires_grad_(lowest < model.num_layers());
  const at::Tensor normed = model.final_norm(last);
  const HeadLoss loss = head_loss(normed.detach(), micro_batch.targets, model.head(),
                                  options.loss_scale, /*gradient=*/true);
  if (normed.requires_grad()) run_backward(normed, loss.d_hidden);
  store.collect_gradients(-1);
  at::Tensor grad = last.grad();
  while (!segments.empty()) {
    const Segment segment = std::move(segments.back());
    segments.pop_back();
    run_backward(segment.out, grad);
    store.collect_gradients(segment.layer);
    grad = segment.in.grad();
  }
  if (lowest < 0) {
    run_backward(embedded, grad);
    store.collect_gradients(-1);
  }
  return {loss.loss_sum, context.balance_loss};
}

}  // namespace sutor
