// The watch over the experts that a training's recipe asks for.
#pragma once

#include <memory>
#include <string>

#include "launch/train/watch/expert_watch.h"
#include "layers/esft/trainable_params.h"
#include "recipes/recipe.h"

namespace sutor {

// Whether the experts are watched at this step: those that the console has a line of, and the last.
// The same on every rank.
bool is_watched(const Recipe& recipe, const ModelInfo& model, int64_t step, int64_t last_step);

// Of a training of `last_step` steps. Compares with the scores in the output folder where these are
// of the base `base_digest` and of all tokens (esft.score.count: all). Reads files: on one rank.
std::unique_ptr<ExpertWatch> watch_of_training(const Recipe& recipe, const ModelInfo& model,
                                               const TrainableSet& trainable,
                                               const std::string& base_digest, int64_t last_step);

}  // namespace sutor
