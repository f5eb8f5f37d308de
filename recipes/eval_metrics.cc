#include "recipes/eval_metrics.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "csrc/base/error.h"
#include "csrc/base/text/text.h"
#include "recipes/data_sets.h"
#include "recipes/recipe_reader.h"

namespace sutor {
namespace {

constexpr const char* kPatience = "train.early_stop.patience";
constexpr const char* kMinDelta = "train.early_stop.min_delta";
constexpr const char* kMetric = "train.early_stop.metric";

void check_name(const Recipe& recipe, const char* key, const std::string& name) {
  const std::vector<std::string> choices = metric_names(recipe);
  if (std::find(choices.begin(), choices.end(), name) != choices.end()) return;
  fail(ErrorCode::kBadValue, "{}: `{}`: expected {}, got `{}`", place_of(recipe, key), key,
       choices.empty() ? "nothing, as data.eval is empty"
                       : fmt::format("one of {}", fmt::join(choices, ", ")),
       name);
}

void check_early_stop(const Recipe& recipe) {
  const EarlyStopOptions& stop = recipe.early_stop;
  if (!stop.metric) {
    for (const char* key : {kPatience, kMinDelta}) {
      // A metric of null switches it off, whatever else is written.
      if (recipe.origins.count(key) == 0 || recipe.origins.count(kMetric) > 0) continue;
      fail(ErrorCode::kMissingKey,
           "{}: `{}` is given, but `{}` is not: which metric shall stop the training? For "
           "example `metric: {}`",
           place_of(recipe, key), key, kMetric,
           recipe.data.eval.empty() ? "task.loss" : metric_names(recipe).front());
    }
    return;
  }
  check_name(recipe, kMetric, *stop.metric);
  if (recipe.eval.every > 0) return;
  fail(ErrorCode::kBadValue,
       "{}: `train.early_stop` decides at evaluations, but `eval.every` is 0: there is one at the "
       "end alone. Set eval.every to a number of steps",
       place_of(recipe, recipe.origins.count("eval.every") ? "eval.every" : kMetric));
}

}  // namespace

MetricName parse_metric_name(const std::string& name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos) return {"", name};
  return {name.substr(0, dot), name.substr(dot + 1)};
}

std::vector<std::string> metric_names(const Recipe& recipe) {
  std::vector<std::string> names;
  for (const DataSource& set : recipe.data.eval) {
    for (const char* key : {"loss", "ppl", "token_acc", "exact_match"}) {
      names.push_back(set.name + "." + key);
    }
    if (!set.scorer) continue;
    for (const std::string& scorer : split_at_commas(*set.scorer)) {
      names.push_back(set.name + "." + scorer);
    }
  }
  const std::string together = held_out_together(recipe);
  if (together.empty()) return names;
  for (const char* key : {"loss", "ppl", "token_acc"}) names.push_back(together + "." + key);
  return names;
}

bool needs_completions(const Recipe& recipe, const DataSource& set) {
  if (!set.scorer) return false;
  const std::vector<std::string> scorers = split_at_commas(*set.scorer);
  for (const std::optional<std::string>& name : {recipe.eval.best, recipe.early_stop.metric}) {
    if (!name) continue;
    const MetricName metric = parse_metric_name(*name);
    if (metric.set != set.name) continue;
    if (std::find(scorers.begin(), scorers.end(), metric.key) != scorers.end()) return true;
  }
  return false;
}

void check_deciding_metrics(const Recipe& recipe) {
  if (recipe.eval.best) check_name(recipe, "eval.best", *recipe.eval.best);
  check_early_stop(recipe);
}

}  // namespace sutor
