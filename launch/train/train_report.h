// What a training prints before it starts, and what it checks when it ends.
#pragma once

#include "launch/model/session.h"
#include "launch/train/checkpointer.h"
#include "launch/train/train_plan.h"
#include "recipes/recipe.h"

namespace sutor {

// What trains, by module, with counts and share; data, schedule, layout.
void print_train_banner(const Recipe& recipe, const TrainPlan& plan, Session& session,
                        const PackingReport& data, int64_t total_steps);

struct FrozenWeightsCheck {
  int64_t trained = 0, changed = 0;  // tensors; changed: the master differs from the base's weight
  int64_t frozen = 0;
  bool frozen_unchanged = false;  // digests of all frozen tensors in memory, before and after
};

// Collective over the world.
FrozenWeightsCheck run_frozen_weights_check(const TrainPlan& plan, Session& session,
                                            const Digest& frozen_before);
void print_frozen_weights_check(const FrozenWeightsCheck& check, const TrainState& state,
                                int64_t tokens, int64_t total_steps);

}  // namespace sutor
