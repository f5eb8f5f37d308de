#include "launch/train_step.h"

#include <cmath>

#include "csrc/base/error.h"
#include "csrc/base/profile.h"
#include "launch/micro_step.h"

namespace sutor {
namespace {

// The norm counts every parameter once: each element is in the chunk of exactly one rank.
double clip_and_norm(Session& session, double limit) {
  FlatGroup& experts = session.store().expert_group();
  FlatGroup& dense = session.store().dense_group();
  double squares = experts.sum_of_squares() + dense.sum_of_squares();
  session.parallel().world().all_reduce(std::span(&squares, 1), ReduceOp::kSum, "gradient norm");
  const double norm = std::sqrt(squares);
  const double factor = limit > 0 ? limit / (norm + 1e-6) : 1.0;
  if (factor < 1.0) {
    experts.scale_gradients(static_cast<float>(factor));
    dense.scale_gradients(static_cast<float>(factor));
  }
  return norm;
}

}  // namespace

StepResult train_step(Session& session, const StepInput& input, const StepOptions& options) {
  ParameterStore& store = session.store();
  MicroStepOptions micro{.lowest_layer = options.lowest_layer};
  // A batch without any target still routes, so that all ranks stay in step; it moves nothing.
  micro.loss_scale = input.supervised > 0 ? 1.0 / static_cast<double>(input.supervised) : 0.0;
  micro.balance_weight = options.balance_loss / static_cast<double>(input.filled_micro_batches);

  store.dense_group().zero_grad();
  store.expert_group().zero_grad();
  double sums[2] = {0, 0};  // loss, balance loss
  for (const MicroBatch& batch : input.micro_batches) {
    const MicroStepResult result = forward_backward(session.model(), store, batch, micro);
    sums[0] += result.loss_sum;
    sums[1] += result.balance_loss;
  }
  {
    const ProfileScope scope("gradient reduction");
    store.expert_group().reduce_gradients();
    store.dense_group().reduce_gradients();
    session.parallel().dp().all_reduce(std::span<double>(sums), ReduceOp::kSum, "step loss");
  }
  const ProfileScope scope("optimizer");

  StepResult result;
  result.loss = sums[0] * micro.loss_scale;
  result.balance_loss = sums[1];
  result.grad_norm = clip_and_norm(session, options.optim.clip);
  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm)) {
    fail(701,
         "training diverged at step {}: loss {}, gradient norm {}. Try a lower optim.lr; the last "
         "checkpoint is untouched.",
         options.step, result.loss, result.grad_norm);
  }
  for (FlatGroup* group : {&store.expert_group(), &store.dense_group()}) {
    group->adamw_step(options.optim, options.lr, options.step);
    group->gather_values();
  }
  return result;
}

}  // namespace sutor
