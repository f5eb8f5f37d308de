// What a training needs of disk and memory, looked at before any weight is read.
#pragma once

#include "csrc/comm/comm.h"
#include "launch/model/session.h"
#include "launch/train/train_plan.h"
#include "recipes/recipe.h"

namespace sutor {

// Collective over the world; what one rank finds ends all. Rank 0 tries out the output folder
// (output_check.h: E0220, E0501, E0502), looks whether a checkpoint fits on its disk (E0501), warns
// when those that will be kept do not all fit, and prints a line of what it found. Every rank
// compares what it will allocate for certain with what it may have (E0503); memory of GPUs is not
// looked at.
void preflight(const Recipe& recipe, const TrainPlan& plan, const SessionOptions& session,
               int64_t total_steps, Comm& world);

}  // namespace sutor
