// What config.json says of a model: enough for verbs that need no weights.
#pragma once

#include <filesystem>

#include "parallel_state/model/model_info.h"

namespace sutor {

// `directory`: a folder with config.json, that file itself, or a base store. Throws E0300 when it
// is missing or not JSON, E0320..E0322 as the family does.
ModelInfo read_model_info(const std::filesystem::path& directory);

}  // namespace sutor
