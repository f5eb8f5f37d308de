// Forward and backward of this rank's micro-batches on its pipeline stage: the part of a training
// step without any bookkeeping.
#pragma once

#include <functional>
#include <span>

#include "launch/data/micro_batch.h"
#include "layers/decoder/causal_model.h"
#include "layers/storage/parameter_store.h"

namespace sutor {

struct MicroStepOptions {
  int lowest_layer = 0;       // TrainableSet::lowest_layer()
  double loss_scale = 1;      // 1 / supervised tokens of the global batch
  double balance_weight = 0;  // balance_loss / micro-batches of the step, 0 = none
};

// This rank's parts: sums over all ranks but the copies within a tensor-parallel group are the
// step's.
struct MicroStepResult {
  double loss_sum = 0;      // nats over the supervised tokens, not scaled
  double balance_loss = 0;  // weighted
};

// Adds the gradients of the scaled loss to the parameters' main gradients. Collective over the
// ranks that share the micro-batches, whether or not these hold tokens. Layers below lowest_layer
// run without autograd; backward runs a layer at a time. When the last micro-batch's is through a
// layer, that layer's gradients are complete: ParameterStore::layer_complete is called, and at the
// end finish_reductions must be.
MicroStepResult forward_backward(const CausalModel& model, ParameterStore& store,
                                 std::span<const MicroBatch> micro_batches,
                                 const MicroStepOptions& options);

}  // namespace sutor
