// The steps of a recipe, in the order of `sutor run`, and which keys decide what each of them
// makes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "recipes/recipe.h"

namespace sutor {

enum class RecipeStep : uint8_t { kPrepare, kScore, kSelect, kTrain, kExport };
std::string_view name_of(RecipeStep step);  // "prepare"

// Canonical text ("key: value" lines) of the keys that decide a step's output, given its input
// files: what `run` compares to tell whether a step is still valid, and `train --resume` whether a
// checkpoint is of the same training. Layout, logging and paths of inputs (their digests count) are
// not among them.
std::string step_keys(const Recipe& recipe, RecipeStep step);

}  // namespace sutor
