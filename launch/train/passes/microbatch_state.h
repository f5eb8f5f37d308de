// One micro-batch on this rank's pipeline stage, from its forward to its backward pass.
#pragma once

#include <vector>

#include "launch/train/passes/pipeline_runner.h"
#include "layers/blocks/head_loss.h"

namespace sutor {

class MicrobatchState {
 public:
  // model, store and micro_batch must outlive it.
  MicrobatchState(const CausalModel& model, ParameterStore& store, const MicroBatch& micro_batch,
                  const PipelineOptions& options);

  const PackedBatch& batch() const { return batch_; }

  // input [T', H]: rows from the previous stage, undefined on the first. Returns the rows for the
  // next stage; on the last stage it computes the loss and returns nothing.
  at::Tensor forward(const at::Tensor& input);
  // grad: of the rows that forward() returned. Adds to the main gradients; returns the gradient of
  // the input, undefined where the previous stage has no backward pass. `last`: this is the last
  // micro-batch's backward pass of the step.
  at::Tensor backward(const at::Tensor& grad, bool last);
  PipelineResult result() const { return {loss_.loss_sum, context_.balance_loss, source_losses_}; }

 private:
  // The autograd graph of a layer, or a half of one, that has a backward pass: from `in` to `out`,
  // which is undefined where the backward pass computes it again.
  struct LayerGraph {
    int layer;
    CausalModel::Part part;
    at::Tensor in, out;
  };
  at::Tensor forward_layer(int layer, const at::Tensor& x);
  at::Tensor forward_part(int layer, CausalModel::Part part, const at::Tensor& x, bool keep);
  at::Tensor forward_again(const LayerGraph& graph);
  void compute_loss(const at::Tensor& x);
  void show(int layer, const at::Tensor& rows) const;  // to PipelineOptions::on_rows

  const CausalModel& model_;
  ParameterStore& store_;
  const PipelineOptions options_;
  const MicroBatch& micro_batch_;
  std::vector<int64_t> targets_, sources_;
  PackedBatch batch_;
  ForwardContext context_;
  Rope::Tables tables_;
  at::Tensor embedded_;
  std::vector<LayerGraph> layer_graphs_;
  at::Tensor last_, normed_;  // input and output of the final norm
  HeadLoss loss_;
  at::Tensor source_losses_;
};

}  // namespace sutor
