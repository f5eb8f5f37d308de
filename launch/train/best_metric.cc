#include "launch/train/best_metric.h"

#include <cmath>

namespace sutor {
namespace {

bool larger_is_better(const std::string& key) { return key == "token_acc" || key == "exact_match"; }

}  // namespace

MetricName parse_metric_name(const std::string& name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos) return {"", name};
  return {name.substr(0, dot), name.substr(dot + 1)};
}

std::optional<double> better_value(const TrainState& state, const EvalMetrics& metrics) {
  const MetricName best = parse_metric_name(state.best_metric);
  const auto found = metrics.values.find(best.key);
  if (metrics.set != best.set || metrics.step == 0 || found == metrics.values.end()) return {};
  const double value = found->second;
  if (!std::isfinite(value)) return {};  // nothing compares with it, and JSON cannot hold it
  const bool better =
      larger_is_better(best.key) ? value > state.best_value : value < state.best_value;
  if (state.best_step >= 0 && !better) return {};
  return value;
}

}  // namespace sutor
