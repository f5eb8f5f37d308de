// Forward and backward passes of this rank's micro-batches on its pipeline stage: the part of a
// training step without any bookkeeping.
#pragma once

#include <functional>
#include <span>

#include "launch/data/micro_batch.h"
#include "layers/decoder/causal_model.h"
#include "layers/storage/parameter_store.h"

namespace sutor {

// What the backward pass computes again instead of keeping it from the forward pass.
enum class Recompute {
  kNone,
  kAttention,  // the attention half of every layer but the lowest
  kLayer,      // every layer
};
// "none", "attention" or "layer", as the recipe has it.
Recompute parse_recompute(const std::string& name);

struct PipelineOptions {
  int lowest_layer = 0;    // TrainableSet::lowest_layer()
  double loss_scale = 1;   // 1 / supervised tokens of the global batch
  BalanceTerms balance{};  // of the global batch
  Recompute recompute = Recompute::kNone;
  int64_t sources = 0;  // training sets whose losses are summed each for itself, 0 = none
  // As in ForwardContext, once for every layer of every micro-batch, though layers are recomputed.
  decltype(ForwardContext::on_routing) on_routing = {};
  // Gets what the forward pass of a micro-batch makes: rows [T, H] of each layer (-1: of the
  // embedding), and the losses [n] of its targets as those of layer num_layers.
  std::function<void(const MicroBatch&, int layer, const at::Tensor& rows)> on_rows = {};
};

// This rank's summands: the step's values are their sums over all ranks, counting each
// tensor-parallel group once.
struct PipelineResult {           // double scalars where the model is
  at::Tensor loss_sum;            // nats over the supervised tokens, not scaled
  at::Tensor balance_loss;        // weighted
  at::Tensor source_losses = {};  // [sources]: loss_sum of each
};

// Adds the gradients of the scaled loss to the parameters' main gradients. Collective over the
// ranks that share the micro-batches, with or without tokens. Layers below lowest_layer run without
// autograd; the backward pass runs layer by layer. When that of the last micro-batch has passed a
// layer, the layer's gradients are complete, and this calls ParameterStore::layer_complete; the
// caller must call finish_reductions at the end.
PipelineResult forward_backward(const CausalModel& model, ParameterStore& store,
                                std::span<const MicroBatch> micro_batches,
                                const PipelineOptions& options);

}  // namespace sutor
