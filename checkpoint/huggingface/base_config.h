// What of a model's config.json its trained values depend on: all keys but a few that mean nothing
// for computing. Checkpoints and adapters record it, since the same weights with another top-k or
// rope are another model.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace sutor {

// config.json without the keys that mean nothing for computing: checkpoint/FORMAT.md lists them.
// How the file is written does not count.
nlohmann::json computing_config(const nlohmann::json& config);

// Throws E0305 naming each key that differs. `recorded`: the computing_config() of the base that
// `trained` (a path, for the message) was trained on; null when it was not recorded, and then
// nothing is checked. `config`: that of `base`, the model at hand.
void check_base_config(const nlohmann::json& recorded, const nlohmann::json& config,
                       const std::string& trained, const std::string& base);

}  // namespace sutor
