// Step `export` of a recipe: what a checkpoint trained, as an adapter and as a merged model.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "checkpoint/export/export_plan.h"
#include "launch/model/model_source.h"
#include "recipes/recipe.h"

namespace sutor {

struct ExportRequest {
  std::vector<std::string> formats;  // adapter, merged, peft
  std::string checkpoint = "best";   // best | latest | none | a step directory
  std::filesystem::path folder;      // adapter/, merged/ and peft/ go below it
  bool verify = false;
  bool overwrite = false;
  QuantizedRule quantized = QuantizedRule::kDequantize;
};

// Throws E0222 when what the recipe trains has no form in one of its formats, before it is trained.
void require_exports(const Recipe& recipe);

// One process. `none`: the base model itself, untouched.
void run_export(const Recipe& recipe, const ModelSource& source, const ExportRequest& request,
                const nlohmann::json& provenance);

}  // namespace sutor
