#include "launch/model_config.h"

#include <nlohmann/json.hpp>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "layers/models/models.h"

namespace sutor {

ModelInfo read_model_info(const std::filesystem::path& directory) {
  namespace fs = std::filesystem;
  const fs::path file = fs::is_directory(directory) ? directory / "config.json" : directory;
  if (!fs::exists(file)) fail(300, "{}: there is no config.json of a model.", directory.string());
  const auto config = nlohmann::json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) fail(300, "{} is no JSON object.", file.string());
  return family_of(config).info(config);
}

}  // namespace sutor
