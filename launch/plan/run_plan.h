// The plan of a training: what it takes of memory, disk and time, computed from the recipe, the
// model's config.json, and what is there of data, scores and expert config. Starts no rank and
// reads no weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "launch/log/plan_file.h"
#include "launch/plan/dry_run.h"
#include "launch/plan/plan_data.h"

namespace sutor {

struct PlanBasis {
  const Recipe& recipe;
  const nlohmann::json& config;  // the model's
  const Family& family;
  ModelInfo model;  // without low-rank pairs
  int world = 1;
  int threads = 1;  // of a rank, on the CPU
  bool gpu = false;
  bool print = true;  // warnings about the data
};

struct PlannedParameters {
  int64_t all = 0, trained = 0;
};

struct RunPlan {
  TrainPlan training;
  std::string selection;                             // where the trained experts are known from
  bool is_estimate = false;                          // of which experts train
  std::map<std::string, PlannedParameters> classes;  // by role
  int64_t parameters = 0;
  std::string layout;
  int world = 1, dp = 1;
  int experts_a_rank = 0, trained_least = 0, trained_most = 0;  // trained: over all layers
  RankNeeds level;                  // of the rank with the largest peak, every expert used equally
  std::optional<RankNeeds> skewed;  // with the shares of the run's scores
  int64_t checkpoint_bytes = 0;
  int64_t most_checkpoints = 0;
  PlannedData data;
  double flops_per_token = 0;

  const RankNeeds& needs() const { return skewed && skewed->peak > level.peak ? *skewed : level; }
};

// Throws what a training of this recipe would of model, layout, data and expert config; but a
// missing expert config is estimated by the scores, or without any by what top_p asks for at most.
RunPlan make_run_plan(const PlanBasis& basis);

// What a run records of its plan.
PlannedRun planned_run(const RunPlan& plan);

}  // namespace sutor
