// What a training does, decided from the recipe, the model's name table and the expert config
// alone, so that it is the same on every rank; its digest is compared before anything is allocated.
#pragma once

#include "csrc/base/hash.h"
#include "csrc/comm/comm.h"
#include "layers/esft/trainable_params.h"
#include "parallel_state/model/expert_config.h"
#include "recipes/recipe.h"

namespace sutor {

struct TrainPlan {
  ExpertConfig config;  // empty for train.method full
  TrainableSet trainable;
  Digest digest;  // of what trains; a checkpoint belongs to one
};

// Whether the training reads an expert config: method esft, and lora on experts.
bool needs_expert_config(const Recipe& recipe);

// Reads esft.config, or the expert config in the output folder that `select` left. Throws E0219
// when there is none, E031x when it does not fit the model. Method lora adds its pairs to the
// model's tensors.
TrainPlan make_train_plan(const Recipe& recipe, ModelInfo& model);

// Collective. Throws E0604 naming the ranks whose plan differs from rank 0's, and the first
// difference: of the recipe's keys, of how far down the backward pass goes, or of what trains.
void check_same_plan(const TrainPlan& plan, const std::string& recipe_text, Comm& world);

// What the generator planned is exactly what the storage of all ranks marked: each name once per
// replica. Collective; throws E7003.
void check_marked(const TrainPlan& plan, const std::vector<std::string>& marked_here, Comm& world);

}  // namespace sutor
