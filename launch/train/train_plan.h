// What a training does, decided from the recipe, the model's name table and the expert config
// alone, so that it is the same on every rank; its digest is compared before anything is allocated.
#pragma once

#include "csrc/base/hash.h"
#include "csrc/comm/comm.h"
#include "layers/esft/trainable_params.h"
#include "layers/storage/parameter_store.h"
#include "parallel_state/model/expert_config.h"
#include "parallel_state/model/model_info.h"
#include "recipes/recipe.h"

namespace sutor {

struct TrainPlan {
  ModelInfo model;      // with the low-rank pairs of method lora
  ExpertConfig config;  // empty for train.method full
  TrainableSet trainable;
  Digest digest;  // of what trains; a checkpoint belongs to one
};

// Whether the training reads an expert config: method esft, and lora on experts.
bool needs_expert_config(const Recipe& recipe);

// Reads esft.config, or the expert config in the output folder that `select` left. Throws E0219
// when there is none, E031x when it does not fit the model.
TrainPlan make_train_plan(const Recipe& recipe, const ModelInfo& model);

// Collective. Throws E0604 naming the ranks whose plan differs from rank 0's, and the first
// difference: of the recipe's keys, of how far down the backward pass goes, or of what trains.
void check_same_plan(const TrainPlan& plan, const std::string& recipe_text, Comm& world);

// The flat buffers of all ranks together hold what the plan trains and nothing else. It can fail:
// storage goes by stages, placement of experts and whole experts, so that a tensor of the plan may
// be left out on every rank. Collective over the store's world; throws E7003 naming a difference.
void check_marked(const TrainableSet& planned, ParameterStore& store);

}  // namespace sutor
