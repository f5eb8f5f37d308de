// Where the recipe's parallel.expert_placement puts the routed experts of a training.
#pragma once

#include "csrc/comm/comm.h"
#include "layers/esft/trainable_params.h"
#include "parallel_state/model/model_info.h"
#include "parallel_state/placement/expert_placement.h"
#include "recipes/recipe.h"

namespace sutor {

// Empty for contiguous; for balanced the ranks that the run's scores and what trains suggest, found
// by rank 0. `model`: with the low-rank pairs of the training, if it has any. Collective. Throws
// E0324 when there are no scores.
ExpertRanks expert_ranks(const Recipe& recipe, const ModelInfo& model,
                         const TrainableSet& trainable, Comm& world);

}  // namespace sutor
