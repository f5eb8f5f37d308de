// The plan of a training whose expert config is not on disk yet.
#pragma once

#include "launch/train/train_plan.h"

namespace sutor {

// What a training by this recipe and this config does; the config was checked against the model.
TrainPlan make_train_plan(const Recipe& recipe, const ModelInfo& model, const ExpertConfig& config);

}  // namespace sutor
