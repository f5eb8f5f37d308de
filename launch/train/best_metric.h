// Which evaluation is the best of a training so far: what BEST points at.
#pragma once

#include <optional>
#include <string>

#include "launch/log/metrics_log.h"
#include "launch/train/checkpointer.h"
#include "recipes/eval_metrics.h"
#include "recipes/recipe.h"

namespace sutor {

// What decides where the recipe does not say: the loss of the first evaluation set, or of the rows
// held out of all training sets; empty without any set.
std::string default_best(const Recipe& recipe);

// The value of state.best_metric in this evaluation, when it makes it the best so far; none when
// it is not better, is no finite number, is of another set, or was taken before training.
std::optional<double> better_value(const TrainState& state, const EvalMetrics& metrics);

// Keeps the values of an evaluation before training, with which the best one is compared in the
// end (unbeaten_base.h); does nothing with others.
void remember_base(TrainState& state, const EvalMetrics& metrics);

}  // namespace sutor
