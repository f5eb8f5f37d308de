// What the experts get of the tokens of a micro-batch at most, for the dry runs of a plan: the
// shares of the run's scores, or level ones, raised by how much micro-batches differ.
#pragma once

#include "csrc/ops/shapes/planned_routing.h"
#include "launch/train/train_plan.h"
#include "layers/esft/expert_scores.h"
#include "parallel_state/placement/expert_placement.h"
#include "recipes/recipe.h"

namespace sutor {

// How many tokens choose alike, as if each group of so many made one choice: the mean over experts
// and layers of what the counts of a sample's halves differ by, over what they would if every token
// chose alone. 1 for halves that differ as little as that or less.
double tokens_alike(const ExpertScores& all, const ExpertScores& first_half);

// What the run's scores say of the routing; no shares without any, or of another model.
struct ScoredRouting {
  ops::RoutingShares shares;
  double tokens_alike = 4;  // a guess where no halves tell, as in other tools' files
};

// Reads the scores in the recipe's output, if they are there; throws E0325 for damaged ones.
ScoredRouting scored_routing(const Recipe& recipe, const ModelInfo& model);

// The rank that a dry run is made for.
struct PlannedRank {
  const Recipe& recipe;
  const TrainPlan& plan;
  const ExpertRanks& expert_ranks;
  int world = 1;
  int rank = 0;
  int64_t batches = 1;  // micro-batches of a rank in the whole training
};

// The shares of a micro-batch of `tokens` tokens with those of the rank's experts, and of the
// trained ones among them, as large as they may become; empty for a model without experts.
// `shares`: before that, level where a layer is missing.
ops::RoutingShares shares_at_most(const PlannedRank& rank, int64_t tokens,
                                  const ops::RoutingShares& shares, const ScoredRouting& scored);

}  // namespace sutor
