// Step `select` of a recipe: scores -> expert config and heat map.
#pragma once

#include <filesystem>

#include "layers/esft/select_experts.h"
#include "recipes/recipe.h"

namespace sutor {

struct SelectRequest {
  SelectOptions options;
  std::filesystem::path scores;         // scores.h5, summary.json, or a folder of records
  std::filesystem::path out, heat_map;  // the expert config and the picture to write
  std::filesystem::path model;          // empty: the config is not checked against a model
  int layer_base = 0;                   // number of the first layer in the scores, for that check
};

// By esft.select, from scores.h5 of the recipe's output to expert_config.json and heat_map.svg
// there.
SelectRequest select_request(const Recipe& recipe);

// One process; prints the table. Throws E0335 for scores of another model, and what select_experts
// and check_expert_config throw.
void run_select(const SelectRequest& request);

}  // namespace sutor
