#include "launch/model/model_config.h"

#include <nlohmann/json.hpp>

#include "checkpoint/store/open_model.h"
#include "csrc/base/error.h"
#include "layers/models/registry.h"

namespace sutor {

ModelInfo read_model_info(const std::filesystem::path& directory) {
  const auto config = nlohmann::json::parse(read_model_config(directory), nullptr,
                                            /*allow_exceptions=*/false);
  if (!config.is_object()) {
    fail(ErrorCode::kNoModel, "{}: config.json is no JSON object.", directory.string());
  }
  return family_of(config).info(config);
}

}  // namespace sutor
