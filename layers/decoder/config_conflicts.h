// Keys of config.json that say the same thing as another key, and are ignored. Free of torch.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace sutor {

// A sentence for each key whose value is ignored although it differs from the one that counts, as
// in transformers 5.23.0 (W0305). Contradictions that nobody can resolve are errors of
// ConfigReader.
std::vector<std::string> doubled_config_keys(const nlohmann::json& config);

}  // namespace sutor
