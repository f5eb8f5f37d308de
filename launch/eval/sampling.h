// Chooses the next token from logits.
#pragma once

#include <ATen/core/Tensor.h>

#include "recipes/recipe.h"

namespace sutor {

// logits: fp32 [V]. Greedy at temperature 0 (the first of equal ones), else a draw from the
// likeliest tokens whose probabilities add up to top_p. The draw is a function of (seed, prompt,
// position) alone.
int64_t choose_token(const at::Tensor& logits, const GenerateOptions& options, int64_t prompt,
                     int64_t position);

}  // namespace sutor
