// What came of a run, in a few numbers: sums of metrics.jsonl, evaluations before and after from
// eval.jsonl, and the checkpoints there are.
#pragma once

#include <nlohmann/json.hpp>

#include "launch/log/run_paths.h"

namespace sutor {

// Of metrics.jsonl: {"steps", "first_loss", "last_loss", "tokens", "supervised_tokens", "seconds",
// "tokens_per_s", "peak_memory_bytes"}; a loss that is not finite is null. Null without any step.
// Lines that are torn are left out. Throws E0301 when the file cannot be read.
nlohmann::ordered_json training_results(const RunPaths& paths);

// Of eval.jsonl, a row each set and metric: {"set", "metric", "before", "best", "best_step",
// "last", "last_step"}; "before" is null without an evaluation of the base.
nlohmann::ordered_json evaluation_results(const RunPaths& paths);

// By rising step: {"step", "folder", "complete", "bytes", "marks": ["best", "latest"]}; of a
// complete one also "made" (program, version, commit, command) and "layout".
nlohmann::ordered_json checkpoint_results(const RunPaths& paths);

// {"metric", "value", "step"} of the best checkpoint by the newest complete checkpoint's state, and
// "unbeaten": a sentence when no evaluation beat the base. Null when nothing says which it is.
nlohmann::ordered_json best_result(const RunPaths& paths);

}  // namespace sutor
