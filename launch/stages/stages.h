// The stages of a recipe as functions: what the verbs of the same names and `run` have in common.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/export/export_plan.h"
#include "csrc/comm/comm.h"
#include "launch/train/trainer.h"
#include "recipes/recipe.h"

namespace sutor {

// Collective; writes scores.h5, and the authors' records where a folder is given.
void run_score(const Recipe& recipe, Comm& world,
               const std::optional<std::filesystem::path>& records);

// Collective. Throws E0220 when the output holds a training and neither --resume nor --overwrite
// was said.
void run_train(const Recipe& recipe, Comm& world, const ResumeMode& mode,
               const nlohmann::json& provenance);

struct ExportRequest {
  std::vector<std::string> formats;  // adapter, merged
  std::string checkpoint = "best";   // best | latest | none | a step directory
  std::filesystem::path folder;      // adapter/ and merged/ go below it
  bool verify = false;
  bool overwrite = false;
  QuantizedRule quantized = QuantizedRule::kDequantize;
};
// One process. `none`: the base model itself, untouched.
void run_export(const Recipe& recipe, const ExportRequest& request,
                const nlohmann::json& provenance);

}  // namespace sutor
