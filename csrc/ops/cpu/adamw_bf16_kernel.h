// The inner loop of AdamW on bf16 (csrc/ops/adamw_bf16_step.h): serial, without torch.
#pragma once

#include <cstdint>

#include "csrc/ops/adamw_bf16_step.h"
#include "csrc/ops/cpu/row_kernels.h"

namespace sutor::ops {

// Steps `count` elements that follow each other in their tensor, the first with the index `first`.
// The step uses the moments before they are rounded. An element takes 16 random bits for each of
// weight, exp_avg and exp_avg_sq: the low and the high half of word 0 and the low half of word 1.
void adamw_bf16_step(const AdamWBf16Step& step, uint64_t first, BFloat* weight, BFloat* exp_avg,
                     BFloat* exp_avg_sq, const float* grad, int64_t count);

}  // namespace sutor::ops
