#include "launch/checkpoints/best_checkpoint.h"

#include <fmt/format.h>

#include <cmath>

#include "checkpoint/format/checkpoint_paths.h"
#include "launch/checkpoints/unbeaten_base.h"
#include "launch/log/evaluation_rows.h"
#include "launch/log/run_paths.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

bool is_there(const fs::path& checkpoints, int64_t step) {
  std::error_code error;
  return step >= 0 && fs::is_directory(checkpoints / step_directory(step), error);
}

}  // namespace

BestValue best_of(BestValue known, const std::vector<EvalMetrics>& evaluations,
                  const fs::path& checkpoints, int64_t last) {
  BestValue best = known;
  if (!is_there(checkpoints, best.step)) best = {.metric = known.metric};
  for (const EvalMetrics& row : evaluations) {
    if (row.step < 1 || row.step > last || !is_there(checkpoints, row.step)) continue;
    for (const auto& [key, value] : row.values) {
      if (row.set + "." + key != best.metric || !std::isfinite(value)) continue;
      if (best.step >= 0 && !is_better(best.metric, value, best.value)) continue;
      best.value = value;
      best.step = row.step;
    }
  }
  return best;
}

namespace {

// By the state of the newest checkpoint and the evaluations on the disk; step -1: none.
BestValue best_value(const fs::path& checkpoints, const NewestCheckpoint& newest) {
  if (!newest.entry) return {};
  BestValue known;
  try {
    const nlohmann::json& best = newest.state.at("best");
    known = {best.at("metric"), best.at("value"), best.at("step")};
  } catch (const nlohmann::json::exception&) {
    return {};  // of another program's state
  }
  const auto evaluations = read_evaluations(RunPaths(checkpoints.parent_path()).evaluations());
  return best_of(known, evaluations, checkpoints, newest.entry->step);
}

}  // namespace

std::optional<CheckpointEntry> best_checkpoint(const fs::path& checkpoints,
                                               const NewestCheckpoint& newest) {
  const BestValue best = best_value(checkpoints, newest);
  if (best.step < 0) return {};
  return CheckpointEntry{best.step, checkpoints / step_directory(best.step)};
}

std::string best_text(const fs::path& checkpoints, const NewestCheckpoint& newest) {
  const BestValue best = best_value(checkpoints, newest);
  return best.step < 0 ? "" : fmt::format("{} {:.6f}", best.metric, best.value);
}

}  // namespace sutor
