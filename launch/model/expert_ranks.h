// The ranks of the routed experts of a training, by the recipe's parallel.expert_placement.
#pragma once

#include <string>
#include <vector>

#include "csrc/comm/comm.h"
#include "parallel_state/model/model_info.h"
#include "parallel_state/placement/expert_placement.h"
#include "recipes/recipe.h"

namespace sutor {

// Empty for contiguous placement; for balanced placement, the ranks that rank 0 computes from the
// run's scores and the trainable tensors (global names). Collective. Throws E0331 when there are no
// scores.
ExpertRanks expert_ranks(const Recipe& recipe, const ModelInfo& model,
                         const std::vector<std::string>& trained, Comm& world);

}  // namespace sutor
