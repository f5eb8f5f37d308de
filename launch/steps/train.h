// Step `train` of a recipe: trains what its plan names, with checkpoints.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "csrc/comm/comm.h"
#include "launch/train/trainer.h"
#include "recipes/recipe.h"

namespace sutor {

// Collective; rank 0 prints. Throws E0220 when the output holds a training and neither mode.resume
// nor mode.overwrite is set, and what the trainer throws.
// mode.fork: set here, from `from` (--from, may be empty) and from what the output holds.
void run_train(const Recipe& recipe, const ModelSource& source, Comm& world, const ResumeMode& mode,
               const nlohmann::json& provenance, const std::string& from = "");

}  // namespace sutor
