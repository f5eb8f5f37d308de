// What a recipe and its model mean together: every value with its origin, and what the model's
// config.json says that changes a training.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "recipes/recipe.h"

namespace sutor {

// One thing that config.json, or the family where it is silent, decides in a training.
struct ModelValue {
  std::string key;     // of config.json
  std::string value;   // as JSON
  std::string origin;  // "config.json", "default of qwen3_moe", "qwen3_moe"
  std::string effect;  // what the run does about it
};

// Throws E0320 to E0322 when config.json is none that can be trained.
std::vector<ModelValue> model_values(const nlohmann::json& config, const Recipe& recipe);

// The recipe as YAML that reads back, each value with its origin; behind it, as comments, what the
// model's config.json decides, or why that cannot be said.
std::string config_text(const Recipe& recipe);
// {"recipe", "values": [{key, value, origin, unit, meaning}], "model": {path, family, values} or
// {path, problem}}; values in JSON's own types.
nlohmann::ordered_json config_json(const Recipe& recipe);

}  // namespace sutor
