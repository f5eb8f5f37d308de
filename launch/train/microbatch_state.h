// One micro-batch on this rank's pipeline stage, from its forward to its backward pass.
#pragma once

#include <vector>

#include "launch/train/micro_step.h"
#include "layers/blocks/head_loss.h"

namespace sutor {

class MicrobatchState {
 public:
  MicrobatchState(const CausalModel& model, ParameterStore& store, const MicroBatch& micro_batch,
                  const MicroStepOptions& options);

  const PackedBatch& batch() const { return batch_; }

  // input: rows from the stage before, undefined on the first stage. Returns the rows for the stage
  // after; on the last stage the loss is computed, and nothing is returned.
  at::Tensor forward(const at::Tensor& input);
  // grad: of the rows that forward() returned. Adds to the main gradients; returns the gradient of
  // the input, undefined where the stage before has no backward pass. `last`: no other
  // micro-batch's backward pass follows in this step.
  at::Tensor backward(const at::Tensor& grad, bool last);
  MicroStepResult result() const { return {loss_.loss_sum, context_.balance_loss}; }

 private:
  // A layer that takes part in the backward pass: its graph runs from `in` to `out` and no further.
  struct LayerGraph {
    int layer;
    at::Tensor in, out;
  };
  void compute_loss(const at::Tensor& x);

  const CausalModel& model_;
  ParameterStore& store_;
  const MicroStepOptions options_;
  std::vector<int64_t> targets_;
  PackedBatch batch_;
  ForwardContext context_;
  at::Tensor embedded_;
  std::vector<LayerGraph> layer_graphs_;
  at::Tensor last_, normed_;  // in and out of the final norm
  HeadLoss loss_;
};

}  // namespace sutor
