// The memory that a training takes for certain on one rank, from its plan alone.
#pragma once

#include <cstdint>

#include "launch/train/train_plan.h"
#include "parallel_state/model/optimizer_state.h"
#include "parallel_state/placement/expert_placement.h"
#include "recipes/recipe.h"

namespace sutor {

struct MemoryEstimate {
  int64_t frozen = 0;     // weights that do not train
  int64_t trained = 0;    // weights that do, and their gradients
  int64_t optimizer = 0;  // the state that the optimizer keeps of them

  int64_t total() const { return frozen + trained + optimizer; }
};

// A lower bound: without activations, and with equal shares where replicas share. `state`: what the
// optimizer declares. The layout must fit (E0210, E0211, E0213 else).
MemoryEstimate estimate_memory(const Recipe& recipe, const TrainPlan& plan,
                               const OptimizerState& state, const ExpertRanks& expert_ranks,
                               int rank, int world_size);

}  // namespace sutor
