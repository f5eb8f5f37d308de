// train.early_stop: whether the evaluations of a training have stopped to get better. A function of
// the evaluations alone, which are in eval.jsonl, so that a resumed training decides alike.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "launch/log/metrics_log.h"
#include "recipes/recipe.h"

namespace sutor {

class EarlyStop {
 public:
  explicit EarlyStop(const EarlyStopOptions& options);

  // Takes an evaluation, in the order of steps; those of other sets, without the metric or with one
  // that is no finite number, and of steps that were taken already do not count. That before
  // training (step 0) is a candidate for the best.
  void add(const EvalMetrics& evaluation);

  // Whether `patience` evaluations after the best one were not better than it by more than
  // min_delta. Never without a metric.
  bool due() const { return metric_ && without_ >= options_.patience; }

  // "task.loss did not get better by more than 0.01 in 3 evaluations; the best is 2.9 at step 40"
  std::string text() const;
  // "task.loss, 3 evaluations without an improvement by more than 0"; empty: off.
  std::string rule() const;

 private:
  EarlyStopOptions options_;
  std::optional<std::string> metric_;
  int64_t step_ = -1;  // the last that was taken
  std::optional<double> best_;
  int64_t best_step_ = 0;
  int64_t without_ = 0;  // evaluations since the best
};

}  // namespace sutor
