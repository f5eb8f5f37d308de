#include "launch/train/same_training.h"

#include <fmt/core.h>

#include <set>
#include <sstream>
#include <vector>

#include "csrc/base/error.h"

namespace sutor {
namespace {

// "key: value" lines of `a` that `b` does not have.
std::vector<std::string> lines_missing(const std::string& a, const std::string& b) {
  std::istringstream in(b), from(a);
  std::set<std::string> present;
  for (std::string line; std::getline(in, line);) present.insert(line);
  std::vector<std::string> missing;
  for (std::string line; std::getline(from, line);) {
    if (!present.count(line)) missing.push_back(line);
  }
  return missing;
}

}  // namespace

bool may_change(const std::string& line) {
  for (const char* key : {"schedule.steps:", "schedule.epochs:", "train.micro_batch:",
                          "train.early_stop.", "eval."}) {
    if (line.starts_with(key)) return true;
  }
  return false;
}

void check_same_training(const TrainState& saved, const TrainState& now, const std::string& where,
                         bool print) {
  std::string refused, changed;
  for (const std::string& line : lines_missing(saved.schedule, now.schedule)) {
    (may_change(line) ? changed : refused) += "\n  then " + line;
  }
  for (const std::string& line : lines_missing(now.schedule, saved.schedule)) {
    (may_change(line) ? changed : refused) += "\n  now  " + line;
  }
  if (saved.data_digest != now.data_digest) refused += "\n  the training data";
  if (saved.leaves_out != now.leaves_out) {
    refused += "\n  documents without a token in the loss, which are left out now";
  }
  if (!refused.empty()) {
    fail(
        ErrorCode::kOtherRecipe,
        "{} was made with other keys or data; going on would mix two trainings:{}\nGo on with what "
        "it was made with; or begin anew with --overwrite or in another output; or fork it: `sutor "
        "train RECIPE --from {} --set output=OTHER`.",
        where, refused, where);
  }
  if (!changed.empty() && print) fmt::print("resumed with other keys than before:{}\n", changed);
}

TrainState continued(const TrainState& saved, const TrainState& now) {
  TrainState state = saved;
  state.schedule = now.schedule;
  if (state.best_metric == now.best_metric) return state;
  const TrainState none;
  state.best_metric = now.best_metric;
  state.best_value = none.best_value;
  state.best_step = none.best_step;
  return state;
}

}  // namespace sutor
