#include "launch/checkpoints/early_stop.h"

#include <fmt/format.h>

#include <cmath>

#include "launch/checkpoints/unbeaten_base.h"
#include "recipes/eval_metrics.h"

namespace sutor {

EarlyStop::EarlyStop(const EarlyStopOptions& options)
    : options_(options), metric_(options.metric) {}

void EarlyStop::add(const EvalMetrics& evaluation) {
  if (!metric_) return;
  const MetricName name = parse_metric_name(*metric_);
  const auto found = evaluation.values.find(name.key);
  if (evaluation.set != name.set || evaluation.step <= step_) return;
  if (found == evaluation.values.end() || !std::isfinite(found->second)) return;
  const double value = found->second;
  step_ = evaluation.step;
  const bool better = !best_ || (is_better(*metric_, value, *best_) &&
                                 std::abs(value - *best_) > options_.min_delta);
  if (!better) {
    ++without_;
    return;
  }
  best_ = value;
  best_step_ = evaluation.step;
  without_ = 0;
}

std::string EarlyStop::text() const {
  if (!best_) return "";
  return fmt::format(
      "{} did not get better by more than {} in {} evaluation{}; the best is {:.6f} {}", *metric_,
      options_.min_delta, without_, without_ == 1 ? "" : "s", *best_,
      best_step_ == 0 ? "before training" : fmt::format("at step {}", best_step_));
}

std::string EarlyStop::rule() const {
  if (!metric_) return "";
  return fmt::format("{}, {} evaluation{} without an improvement by more than {}", *metric_,
                     options_.patience, options_.patience == 1 ? "" : "s", options_.min_delta);
}

}  // namespace sutor
