// Forward and backward passes of this rank's micro-batches on its pipeline stage: the part of a
// training step without any bookkeeping.
#pragma once

#include <functional>
#include <span>

#include "launch/data/micro_batch.h"
#include "layers/decoder/causal_model.h"
#include "layers/storage/parameter_store.h"

namespace sutor {

struct PipelineOptions {
  int lowest_layer = 0;       // TrainableSet::lowest_layer()
  double loss_scale = 1;      // 1 / supervised tokens of the global batch
  double balance_weight = 0;  // balance_loss / micro-batches of the step, 0 = none
};

// This rank's summands: the step's values are their sums over all ranks, counting each
// tensor-parallel group once.
struct PipelineResult {
  double loss_sum = 0;      // nats over the supervised tokens, not scaled
  double balance_loss = 0;  // weighted
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
