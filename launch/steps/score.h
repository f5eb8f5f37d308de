// Step `score` of a recipe: how much the task's tokens use each expert.
#pragma once

#include <filesystem>
#include <optional>

#include "csrc/comm/comm.h"
#include "launch/model/model_source.h"
#include "recipes/recipe.h"

namespace sutor {

// A sample of the training tokens through the frozen model -> scores.h5, and the authors' records
// where a folder is given. Collective; rank 0 prints. Throws E0331 without token stores, E0334 when
// the sample is empty.
void run_score(const Recipe& recipe, const ModelSource& source, Comm& world,
               const std::optional<std::filesystem::path>& records);

}  // namespace sutor
