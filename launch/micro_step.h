// Forward and backward of one micro-batch: the part of a training step without any bookkeeping.
#pragma once

#include "launch/data/micro_batch.h"
#include "layers/causal_model.h"
#include "layers/parameter_store.h"

namespace sutor {

struct MicroStepOptions {
  int lowest_layer = 0;       // TrainableSet::lowest_layer()
  double loss_scale = 1;      // 1 / supervised tokens of the global batch
  double balance_weight = 0;  // balance_loss / micro-batches of the step, 0 = none
};

struct MicroStepResult {
  double loss_sum = 0;      // nats over the supervised tokens, not scaled
  double balance_loss = 0;  // weighted
};

// Adds the gradients of the scaled loss to the parameters' main gradients. Collective over the
// expert-parallel group, whether or not the micro-batch holds tokens. Layers below lowest_layer run
// without autograd; backward runs a layer at a time, and a layer's gradients are complete when the
// next one starts.
MicroStepResult forward_backward(const CausalModel& model, ParameterStore& store,
                                 const MicroBatch& micro_batch, const MicroStepOptions& options);

}  // namespace sutor
