#include "launch/model/model_path.h"

#include "checkpoint/format/foreign_files.h"
#include "checkpoint/store/store_manifest.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "recipes/missing_path.h"
#include "recipes/recipe_reader.h"

namespace sutor {

void require_model_path(const Recipe& recipe) {
  const std::filesystem::path path = recipe.model.path;
  if (is_base_store(path) || is_there(path / "config.json")) return;
  const std::string place = place_of(recipe, "model.path");
  const std::string foreign = foreign_model_text(path);
  if (!is_there(path)) {
    fail(ErrorCode::kNoModel, "{}: model.path: {}{}", place,
         missing_path_text(path.string(), recipe), foreign.empty() ? "" : "; " + foreign);
  }
  fail(ErrorCode::kNoModel, "{}: model.path: {} is no model directory: {}", place, path.string(),
       foreign.empty() ? "it has no config.json, and it is not a base store" : foreign);
}

}  // namespace sutor
