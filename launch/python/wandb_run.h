// A run of Weights & Biases that follows a training (log.wandb): through the service's own library
// in a Python process beside the job (tools/wandb_log.py), which the job never waits for.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "launch/log/run_paths.h"
#include "launch/python/side_process.h"
#include "recipes/recipe.h"

namespace sutor {

// Before a training begins: throws E0232 when log.wandb is on and its library, or for mode online
// an account, is missing. On one rank.
void check_wandb(const Recipe& recipe);

// Used by one rank. What goes wrong after the start is told once, as W0310.
class WandbRun {
 public:
  // goes_on: a training that is resumed goes on with its run, whose id the output folder keeps; any
  // other begins a new one. Throws E0232, E0501 or E0502 when it cannot begin.
  WandbRun(const Recipe& recipe, const RunPaths& paths, bool goes_on);
  // Without finish() before it the run is marked as failed.
  ~WandbRun();

  // A line of metrics.jsonl or eval.jsonl.
  void log(const nlohmann::ordered_json& row);
  // The end of the job with this exit code: waits a while for the process to hand everything over,
  // shorter for a job that was asked to stop.
  void finish(int exit_code, const nlohmann::ordered_json& summary);

 private:
  void warn();

  std::string folder_;  // of the service's files
  std::unique_ptr<SideProcess> process_;
  bool finished_ = false, warned_ = false;
};

}  // namespace sutor
