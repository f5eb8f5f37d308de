// Where the recipe's parallel.expert_placement puts the routed experts of a training.
#pragma once

#include <string>
#include <vector>

#include "csrc/comm/comm.h"
#include "parallel_state/model/model_info.h"
#include "parallel_state/placement/expert_placement.h"
#include "recipes/recipe.h"

namespace sutor {

// Empty for contiguous; for balanced the ranks that the run's scores and the trained tensors
// (global names) suggest, found by rank 0. Collective. Throws E0324 when there are no scores.
ExpertRanks expert_ranks(const Recipe& recipe, const ModelInfo& model,
                         const std::vector<std::string>& trained, Comm& world);

}  // namespace sutor
