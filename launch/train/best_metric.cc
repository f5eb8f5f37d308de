#include "launch/train/best_metric.h"

#include <cmath>

#include "launch/checkpoints/unbeaten_base.h"
#include "launch/data/token_stores.h"
#include "recipes/data_sets.h"

namespace sutor {

std::string default_best(const Recipe& recipe) {
  if (recipe.data.eval.empty()) return "";
  const DataSource& first = recipe.data.eval.front();
  const std::string together = held_out_together(recipe);
  const bool is_part = !first.held_out_of.empty() && !together.empty();
  return (is_part ? together : data_set_name(first)) + ".loss";
}

std::optional<double> better_value(const TrainState& state, const EvalMetrics& metrics) {
  const MetricName best = parse_metric_name(state.best_metric);
  const auto found = metrics.values.find(best.key);
  if (metrics.set != best.set || metrics.step == 0 || found == metrics.values.end()) return {};
  const double value = found->second;
  if (!std::isfinite(value)) return {};  // nothing compares with it, and JSON cannot hold it
  if (state.best_step >= 0 && !is_better(state.best_metric, value, state.best_value)) return {};
  return value;
}

void remember_base(TrainState& state, const EvalMetrics& metrics) {
  if (metrics.step != 0) return;
  for (const auto& [key, value] : metrics.values) {
    if (std::isfinite(value)) state.base_values[metrics.set + "." + key] = value;
  }
}

}  // namespace sutor
