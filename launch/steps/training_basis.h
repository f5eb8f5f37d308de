// What the training of an output was made of, which `run` must not replace under it.
#pragma once

#include <string>

#include "launch/steps/stage_checks.h"
#include "recipes/recipe.h"

namespace sutor {

// One process; `checks`: of the recipe. The output holds checkpoints. Throws E0221 when they were
// made with other keys than the recipe's, E0224 when tokens, scores, selection or base model of the
// output are of other inputs than the recipe's now; each names the differences and the ways out.
// Throws E0349 or E0301 when no checkpoint says what it was made of (checkpoint_list.h).
// base_digest: of the recipe's model. selects: whether the expert config is made from scores here.
void refuse_other_basis(const Recipe& recipe, const std::string& base_digest, bool selects,
                        StageChecks& checks);

}  // namespace sutor
