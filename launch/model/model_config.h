// What config.json says of a model: enough for verbs that need no weights.
#pragma once

#include <filesystem>

#include "csrc/base/error_codes.h"
#include "parallel_state/model/model_info.h"

namespace sutor {

// `directory`: a folder with config.json, that file itself, or a base store. Throws E0300 when it
// is missing or not JSON, E0320..E0322 as the family does.
ModelInfo read_model_info(const std::filesystem::path& directory);

// Whether an error says that config.json describes a model that sutor cannot train (E0320, E0322).
// The model's files can still be listed and compared.
bool is_unsupported_model(ErrorCode code);

}  // namespace sutor
