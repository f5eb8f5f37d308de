// What a training step of one rank takes, found by making it: the model's own passes, optimizer
// and evaluation on tensors without values, which take no memory and no time but are counted as the
// real ones are. One dry run at a time in a process, on one thread; it starts no rank.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "csrc/ops/device/memory.h"
#include "csrc/ops/shapes/planned_routing.h"
#include "launch/data/micro_batch.h"
#include "launch/train/train_plan.h"
#include "layers/models/registry.h"
#include "parallel_state/placement/expert_placement.h"
#include "recipes/recipe.h"

namespace sutor {

struct DryRunInput {
  const Recipe& recipe;
  const TrainPlan& plan;
  const Family& family;
  const nlohmann::json& config;  // the model's
  const ExpertRanks& expert_ranks;
  int world = 1;
  ops::RoutingShares shares = {};
  // The micro-batches to step through one after the other, as many as the pipeline has in flight;
  // and those of an evaluation, empty without one.
  std::vector<MicroBatch> train, eval;
  double peer_tokens = 1;  // of each other rank for `train`, over the rank's own
};

struct RankNeeds {
  int rank = 0;
  int64_t weights = 0, gradients = 0, optimizer = 0;  // bytes that stay
  int64_t peak = 0;                                   // bytes of all tensors at a time
  std::array<int64_t, ops::kMemoryItems> items{};     // of the peak
  int64_t state_copy = 0;                             // bytes of a copy of the training state
  double attention_products = 0;                      // multiply-adds of attention for `train`
  double sent_bytes = 0;  // by the rank for `train`, reductions included
};

// Tensors are counted with the threads that at::get_num_threads() says. The layout must fit (E0210,
// E0211, E0213 else).
RankNeeds dry_run(const DryRunInput& input, int rank);

}  // namespace sutor
