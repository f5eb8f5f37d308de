#include "launch/train/train_step.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "csrc/base/error.h"
#include "csrc/base/profile.h"
#include "launch/train/losses/balance_loss.h"
#include "launch/train/passes/pipeline_runner.h"
#include "layers/optim/gradient_clip.h"

namespace sutor {
namespace {

BalanceTerms terms_of(Session& session, const StepInput& input, const StepOptions& options) {
  BalanceTerms terms{.weight = options.balance_loss,
                     .over = options.balance_over,
                     .sequences = input.sequences,
                     .tokens = input.tokens};
  // The backward pass of the first micro-batch needs the counts of all.
  if (terms.weight != 0 && terms.over == BalanceOver::kBatch && input.micro_batches.size() > 1) {
    terms.counts = count_assignments(session.model(), session.store().model(), input.micro_batches);
  }
  return terms;
}

// Collective.
[[noreturn]] void fail_diverged(Session& session, const StepInput& input,
                                const StepOptions& options, const PipelineOptions& micro,
                                const StepResult& result) {
  const auto unnamed = [](int, int64_t document) { return fmt::format("document {}", document); };
  const Divergence divergence =
      find_divergence(session, input.micro_batches, micro,
                      options.document_name ? options.document_name : DocumentName(unnamed));
  if (options.on_divergence) options.on_divergence(divergence, result);
  std::string place = divergence.place;
  if (!place.empty()) place = " (" + place + ")";
  fail(ErrorCode::kDiverged,
       "training diverged at step {}: loss {}, gradient norm {}{}. Try a lower optim.lr; the last "
       "checkpoint is untouched.",
       options.step, result.loss, result.grad_norm, place);
}

}  // namespace

StepResult train_step(Session& session, Optimizer& optimizer, const StepInput& input,
                      const StepOptions& options) {
  ParameterStore& store = session.store();
  // The order of samples gives no batch without a target: it would count as a step, and learn
  // nothing.
  SUTOR_ASSERT(input.supervised > 0);
  PipelineOptions micro{.lowest_layer = options.lowest_layer, .recompute = options.recompute};
  micro.loss_scale = 1.0 / static_cast<double>(input.supervised);
  micro.balance = terms_of(session, input, options);

  micro.on_routing = options.on_routing;
  micro.sources = static_cast<int64_t>(input.supervised_by_source.size());

  const std::vector<FlatBuffer*> buffers = store.buffers();
  for (FlatBuffer* buffer : buffers) buffer->zero_grad();
  const PipelineResult own = forward_backward(session.model(), store, input.micro_batches, micro);
  // The ranks of a tensor-parallel group all have the loss of the same tokens.
  const bool counts = session.parallel().coordinates().tp == 0;
  std::vector<double> sums;  // loss, balance loss, losses of each training set
  double squares;
  {
    const ProfileScope scope("gradient reduction");
    store.finish_reductions();
    // The only values of a step that the host reads.
    const at::Tensor scalars =
        at::stack({own.loss_sum, own.balance_loss, squared_gradients(buffers)});
    const at::Tensor read = at::cat({scalars, own.source_losses}).cpu();
    const double* values = read.data_ptr<double>();
    squares = values[2];
    sums = {counts ? values[0] : 0.0, values[1]};
    for (int64_t i = 3; i < read.numel(); ++i) sums.push_back(counts ? values[i] : 0.0);
    session.parallel().world().all_reduce(std::span<double>(sums), ReduceOp::kSum, "step loss");
  }
  const ProfileScope scope("optimizer");

  StepResult result;
  result.loss = sums[0] * micro.loss_scale;
  result.balance_loss = sums[1];
  for (size_t s = 0; s < input.supervised_by_source.size(); ++s) {
    const int64_t targets = input.supervised_by_source[s];
    result.source_losses.push_back(targets > 0 ? sums[2 + s] / static_cast<double>(targets)
                                               : std::numeric_limits<double>::quiet_NaN());
  }
  result.grad_norm = gradient_norm(squares, session.parallel().world());
  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm)) {
    fail_diverged(session, input, options, micro, result);
  }
  clip_gradients(buffers, result.grad_norm, options.clip);
  optimizer.step(options.lr, options.optimizer_step > 0 ? options.optimizer_step : options.step);
  for (FlatBuffer* buffer : buffers) buffer->gather_values();
  return result;
}

}  // namespace sutor
