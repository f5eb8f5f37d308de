// The model that a recipe names, before anything is opened: is there a model directory at all?
#pragma once

#include "recipes/recipe.h"

namespace sutor {

// Throws E0300, with the place in the recipe, when nothing is at model.path, or something else than
// a model directory or a base store: says what it is, what the path is relative to, and the remedy.
void require_model_path(const Recipe& recipe);

}  // namespace sutor
