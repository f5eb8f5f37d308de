// Selection as a stage of a recipe.
#pragma once

#include "recipes/recipe.h"

namespace sutor {

// scores.h5 of the recipe's output -> expert_config.json and heat_map.svg there, by esft.select;
// prints the table. Throws what select_experts and check_expert_config throw.
void run_select(const Recipe& recipe);

}  // namespace sutor
