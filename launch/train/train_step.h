// One optimizer step over a global batch: forward and backward of this rank's micro-batches,
// gradient reduction, clip, optimizer. No files, no printing.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "launch/data/micro_batch.h"
#include "launch/model/session.h"
#include "launch/train/passes/divergence.h"
#include "launch/train/passes/pipeline_runner.h"
#include "layers/optim/optimizer.h"

namespace sutor {

struct StepInput {
  std::span<const MicroBatch> micro_batches;  // of its data-parallel rank; as many on every one
  int64_t supervised = 0;                     // targets of the global batch
  int64_t sequences = 1, tokens = 0;          // of the global batch; for the load-balance loss
  // `supervised` of each training set, where there are several; else empty.
  std::vector<int64_t> supervised_by_source = {};
};

struct StepResult {
  double loss = 0;          // nats, mean over the supervised tokens of the global batch
  double grad_norm = 0;     // of all trained parameters, each counted once, before the clip
  double balance_loss = 0;  // weighted
  // `loss` of each set of StepInput::supervised_by_source; NaN where the batch has none of it.
  std::vector<double> source_losses = {};
};

struct StepOptions {
  int lowest_layer = 0;     // TrainableSet::lowest_layer()
  double balance_loss = 0;  // TrainOptions::balance_loss
  BalanceOver balance_over = BalanceOver::kSequences;
  Recompute recompute = Recompute::kNone;
  double clip = 1.0;  // OptimOptions::clip
  double lr = 0;
  int64_t step = 1;  // counts from 1
  // That of the optimizer's moments, which a fork may have from its parent; 0: `step`.
  int64_t optimizer_step = 0;
  decltype(ForwardContext::on_routing) on_routing = {};  // as in PipelineOptions
  // Where the step is not finite: names documents for the error; and is told of it before it is
  // thrown, on every rank.
  DocumentName document_name = {};
  std::function<void(const Divergence&, const StepResult&)> on_divergence = {};
};

// Collective over the world. Throws E0701 when loss or gradient norm is not finite, and says where
// that began; parameters are then as before.
StepResult train_step(Session& session, Optimizer& optimizer, const StepInput& input,
                      const StepOptions& options);

}  // namespace sutor
