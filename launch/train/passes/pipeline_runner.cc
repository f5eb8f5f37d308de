// Carries out the pipeline schedule (1F1B) of one stage.
#include "launch/train/passes/pipeline_runner.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <map>

#include "csrc/base/error.h"
#include "launch/train/passes/microbatch_state.h"
#include "layers/parallel/stage_exchange.h"
#include "parallel_state/layout/pipeline_schedule.h"

namespace sutor {
namespace {

// The stage of the lowest trainable layer; the embedding is on the first, the head on the last.
int lowest_stage(const StageMap& stages, int lowest_layer) {
  if (lowest_layer < 0) return 0;
  if (lowest_layer >= stages.num_layers()) return stages.num_stages() - 1;
  return stages.stage_of(lowest_layer);
}

class StageRunner {
 public:
  StageRunner(const CausalModel& model, ParameterStore& store,
              std::span<const MicroBatch> micro_batches, const PipelineOptions& options)
      : model_(model),
        store_(store),
        micro_batches_(micro_batches),
        options_(options),
        pipeline_(model.parallel().pp()),
        stage_(model.parallel().stage()) {
    const auto scalar = at::TensorOptions().dtype(at::kDouble).device(model.device());
    result_ = {at::zeros({}, scalar), at::zeros({}, scalar), at::zeros({options.sources}, scalar)};
  }

  PipelineResult run() {
    const PipelineSchedule schedule =
        make_pipeline_schedule(pipeline_.size(), static_cast<int>(micro_batches_.size()),
                               lowest_stage(model_.parallel().stages(), options_.lowest_layer));
    keeps_ = schedule.has_backward(stage_);
    for (const PipelineAction& action : schedule.actions[stage_]) carry_out(action);
    return result_;
  }

 private:
  using Kind = PipelineActionKind;

  void carry_out(const PipelineAction& action) {
    switch (action.kind) {
      case Kind::kReceiveForward:
        rows_ = model_.stage_input(state(action.micro_batch).batch());
        return receive_from_stage(rows_, stage_ - 1, pipeline_, "activations");
      case Kind::kForward:
        rows_ = state(action.micro_batch).forward(rows_);
        add_result(action.micro_batch);
        if (!keeps_) states_.erase(action.micro_batch);
        return;
      case Kind::kSendForward:
        ++sent_;
        return send_to_stage(rows_, stage_ + 1, pipeline_, "activations");
      case Kind::kReceiveBackward:
        grad_ = model_.stage_input(state(action.micro_batch).batch());
        return receive_from_stage(grad_, stage_ + 1, pipeline_, "gradients");
      case Kind::kBackward:
        ++backwards_;
        grad_ =
            state(action.micro_batch)
                .backward(grad_, /*last=*/backwards_ == static_cast<int>(micro_batches_.size()));
        states_.erase(action.micro_batch);
        return;
      case Kind::kSendBackward:
        return send_to_stage(grad_, stage_ - 1, pipeline_, "gradients");
      case Kind::kAwaitSentForward:
        return pipeline_.await_sends(static_cast<size_t>(sent_ - action.micro_batch - 1),
                                     "activations taken");
    }
  }

  MicrobatchState& state(int micro_batch) {
    auto& state = states_[micro_batch];
    if (!state) {
      state =
          std::make_unique<MicrobatchState>(model_, store_, micro_batches_[micro_batch], options_);
    }
    return *state;
  }

  void add_result(int micro_batch) {
    const PipelineResult own = state(micro_batch).result();
    if (own.loss_sum.defined()) result_.loss_sum += own.loss_sum;
    if (own.balance_loss.defined()) result_.balance_loss += own.balance_loss;
    if (own.source_losses.defined()) result_.source_losses += own.source_losses;
  }

  const CausalModel& model_;
  ParameterStore& store_;
  std::span<const MicroBatch> micro_batches_;
  const PipelineOptions& options_;
  Comm& pipeline_;
  const int stage_;
  bool keeps_ = false;  // states, for a backward pass
  int sent_ = 0;        // activations
  int backwards_ = 0;
  std::map<int, std::unique_ptr<MicrobatchState>> states_;  // of micro-batches in flight
  at::Tensor rows_, grad_;                                  // of the previous action
  PipelineResult result_;
};

}  // namespace

Recompute parse_recompute(const std::string& name) {
  if (name == "attention") return Recompute::kAttention;
  if (name == "layer") return Recompute::kLayer;
  SUTOR_ASSERT(name == "none");
  return Recompute::kNone;
}

PipelineResult forward_backward(const CausalModel& model, ParameterStore& store,
                                std::span<const MicroBatch> micro_batches,
                                const PipelineOptions& options) {
  return StageRunner(model, store, micro_batches, options).run();
}

}  // namespace sutor
