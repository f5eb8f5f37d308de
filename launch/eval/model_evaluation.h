// Evaluation of a recipe's sets on the base model and on what was trained of it.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "csrc/comm/comm.h"
#include "parallel_state/model/expert_config.h"
#include "recipes/recipe.h"

namespace sutor {

struct EvaluationRequest {
  std::string checkpoint = "auto";  // as choose_checkpoint() takes it; none: the base alone
  bool base = true;                 // measure the base too
  std::optional<std::filesystem::path> masked;  // expert config: experts that must not be chosen
  std::filesystem::path folder;                 // completions go below it, by model and set
};

struct EvaluatedSet {
  std::string set;
  int64_t targets = 0;
  std::map<std::string, double> values;  // loss, ppl, token_acc, exact_match, and scorers
};

struct EvaluatedModel {
  std::string name;  // "base", or "trained"
  std::string what;  // the model's or the checkpoint's path
  std::vector<EvaluatedSet> sets;
};

// Collective. Sets with a scorer are generated for, and their completions scored, on rank 0.
std::vector<EvaluatedModel> evaluate_models(const Recipe& recipe, Comm& world,
                                            const EvaluationRequest& request);

// A line a set and metric: base, trained, change.
std::string evaluation_table(const std::vector<EvaluatedModel>& models);
nlohmann::json evaluation_json(const std::vector<EvaluatedModel>& models);

}  // namespace sutor
