// What config.json alone says of a model: enough for verbs that need no weights.
#pragma once

#include <filesystem>

#include "parallel_state/model/model_info.h"

namespace sutor {

// `directory`: a folder that holds config.json, that file itself, or a base store. Throws E0300
// when it is missing or no JSON, E0320..E0322 as the family does.
ModelInfo read_model_info(const std::filesystem::path& directory);

}  // namespace sutor
