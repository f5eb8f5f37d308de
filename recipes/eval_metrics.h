// What evaluations while training measure: which names `eval.best` and `train.early_stop.metric`
// may have.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "recipes/recipe.h"

namespace sutor {

// "task.loss" is the metric `key` of the evaluation set `set`. A name without a dot has no set.
struct MetricName {
  std::string set, key;
};
MetricName parse_metric_name(const std::string& name);

// All of them: "task.loss", "task.ppl", ..., and those of the set's scorers, for which completions
// are generated in every evaluation.
std::vector<std::string> metric_names(const Recipe& recipe);

// Whether a metric that decides (best or early stop) is one of this set's scorers'.
bool needs_completions(const Recipe& recipe, const DataSource& set);

// Throws E0205, naming those that there are, for a metric that decides and is not measured, and for
// an early stop that could never decide; E0206 for one without a metric.
void check_deciding_metrics(const Recipe& recipe);

}  // namespace sutor
