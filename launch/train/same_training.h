// Whether a checkpoint may be resumed under the recipe and data at hand, or is another training's.
#pragma once

#include <string>

#include "launch/train/checkpointer.h"

namespace sutor {

// Of a "key: value" line of TrainState::schedule: whether it may change between a training and its
// resumption. How long it goes on, how a batch is divided, and when it is measured may; everything
// else makes it another training.
bool may_change(const std::string& line);

// Throws E0221, naming each difference, when `saved` was made with other keys or data than `now`.
// where: the checkpoint, for the message. print: tells on stdout of differences that are allowed.
void check_same_training(const TrainState& saved, const TrainState& now, const std::string& where,
                         bool print);

// The state that a training goes on from under the keys of `now`: that of `saved`, without its best
// where another metric decides from now on.
TrainState continued(const TrainState& saved, const TrainState& now);

}  // namespace sutor
