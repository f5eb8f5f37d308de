#include "launch/train/train_step.h"

#include <cmath>

#include "csrc/base/error.h"
#include "csrc/base/profile.h"
#include "launch/train/micro_step.h"

namespace sutor {
namespace {

// The norm counts every parameter once: each element is in the chunk of exactly one rank.
double clip_and_norm(Session& session, double limit) {
  const std::vector<FlatGroup*> groups = session.store().groups();
  double squares = 0;
  for (const FlatGroup* group : groups) squares += group->sum_of_squares();
  session.parallel().world().all_reduce(std::span(&squares, 1), ReduceOp::kSum, "gradient norm");
  const double norm = std::sqrt(squares);
  const double factor = limit > 0 ? limit / (norm + 1e-6) : 1.0;
  if (factor < 1.0) {
    for (FlatGroup* group : groups) group->scale_gradients(static_cast<float>(factor));
  }
  return norm;
}

}  // namespace

StepResult train_step(Session& session, const StepInput& input, const StepOptions& options) {
  ParameterStore& store = session.store();
  MicroStepOptions micro{.lowest_layer = options.lowest_layer};
  // A batch without any target still routes, so that all ranks stay in step; it moves nothing.
  micro.loss_scale = input.supervised > 0 ? 1.0 / static_cast<double>(input.supervised) : 0.0;
  micro.balance_weight = options.balance_loss / static_cast<double>(input.nonempty_micro_batches);

  for (FlatGroup* group : store.groups()) group->zero_grad();
  const MicroStepResult own = forward_backward(session.model(), store, input.micro_batches, micro);
  // The ranks of a tensor-parallel group all have the loss of the same tokens.
  const bool counts = session.parallel().coordinates().tp == 0;
  double sums[2] = {counts ? own.loss_sum : 0.0, own.balance_loss};
  {
    const ProfileScope scope("gradient reduction");
    store.finish_reductions();
    session.parallel().world().all_reduce(std::span<double>(sums), ReduceOp::kSum, "step loss");
  }
  const ProfileScope scope("optimizer");

  StepResult result;
  result.loss = sums[0] * micro.loss_scale;
  result.balance_loss = sums[1];
  result.grad_norm = clip_and_norm(session, options.optim.clip);
  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm)) {
    fail(ErrorCode::kDiverged,
         "training diverged at step {}: loss {}, gradient norm {}. Try a lower optim.lr; the last "
         "checkpoint is untouched.",
         options.step, result.loss, result.grad_norm);
  }
  for (FlatGroup* group : store.groups()) {
    group->adamw_step(options.optim, options.lr, options.step);
    group->gather_values();
  }
  return result;
}

}  // namespace sutor
