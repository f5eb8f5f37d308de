// Whether a training is long enough, and its data large enough, for what the recipe asks.
#pragma once

#include <string>

#include "launch/data/sample_order.h"
#include "recipes/recipe.h"

namespace sutor {

// Throws E0205 when the training ends within the first thousandth of its warm-up. With `print`,
// W0105 for a batch that is larger than an epoch, W0106 for a warm-up that is longer than the
// training, W0114 for documents without a token in the loss, W0115 for those that are too long.
// `stream` stands at its start.
void check_run_length(const Recipe& recipe, const SampleStream& stream, int64_t total_steps,
                      bool print);

// What is to be said of a training of one step.
std::string one_step_text();

}  // namespace sutor
