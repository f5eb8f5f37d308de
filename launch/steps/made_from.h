// What an output was made from: digests of inputs and values of recipe keys, by name. Each stage's
// output carries them, so that whoever uses it can compare them with what there is now.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "layers/esft/select_experts.h"
#include "recipes/recipe.h"

namespace sutor {

using MadeFrom = std::map<std::string, std::string>;

// The inverse of nlohmann::json(MadeFrom); what is no text is left out.
MadeFrom made_from(const nlohmann::json& json);

// "esft.select.layers was [3], is all", for each name that both have with other values. Digests are
// cut to what tells them apart.
std::vector<std::string> differences(const MadeFrom& then, const MadeFrom& now);

// Of the keys of config.json that decide what the model computes. Throws E0300.
std::string base_config_digest(const std::filesystem::path& model);

// Of scores.h5. stores: name and digest of each token store of data.train, in order.
MadeFrom scores_made_from(const Recipe& recipe, const std::string& base_digest,
                          const std::vector<std::pair<std::string, std::string>>& stores);

// Of the expert config that these options choose from these scores.
MadeFrom selection_made_from(const SelectOptions& options, const ScoreTable& scores);
// The config with what made it beside it, under the key `made_from`, see expert_config.h.
void write_selection(const ExpertConfig& config, MadeFrom made_from,
                     const std::filesystem::path& path);

}  // namespace sutor
