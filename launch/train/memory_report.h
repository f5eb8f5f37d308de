// What a training that runs out of memory says.
#pragma once

#include <functional>

#include "launch/model/session.h"
#include "layers/optim/optimizer.h"
#include "recipes/recipe.h"

namespace sutor {

// Runs `body`. When a tensor cannot be had in it, throws E0503 with what asked for it, what this
// rank keeps in memory, and which keys of the recipe make the training smaller.
void with_memory_report(const Recipe& recipe, Session& session, const Optimizer& optimizer,
                        const std::function<void()>& body);

}  // namespace sutor
