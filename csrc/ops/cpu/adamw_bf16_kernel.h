// The inner loop of AdamW on bf16 weights and moments with stochastic rounding: serial, without
// torch. Sums and products are never contracted and no libm function is called, so that every
// vector width and machine gives the same bits.
#pragma once

#include <cstdint>

#include "csrc/ops/cpu/row_kernels.h"

namespace sutor::ops {

struct AdamWConstants {
  double lr = 0, beta1 = 0, beta2 = 0, eps = 0, weight_decay = 0;
};

// Which random bits: those of an element are a function of this and of its index.
struct RoundingStream {
  uint64_t seed = 0;
  int64_t step = 1;
  uint64_t tensor = 0;  // hash of the tensor's name
};

// The factors of one step for the elements of one tensor.
struct AdamWBf16Step {
  float keep1 = 0, take1 = 0;  // exp_avg = keep1 exp_avg + take1 g
  float keep2 = 0, take2 = 0;  // exp_avg_sq = keep2 exp_avg_sq + take2 g g
  float decay = 1;             // weight = decay weight - rate exp_avg /
  float rate = 0, root = 0;    //          (root sqrt(exp_avg_sq) + eps)
  float eps = 0;
  uint32_t key0 = 0, key1 = 0;    // of the seed and the step
  uint32_t name0 = 0, name1 = 0;  // upper words of the counter
};
AdamWBf16Step adamw_bf16_at(const AdamWConstants& constants, const RoundingStream& stream,
                            bool decays);

// Steps `count` elements that follow each other in their tensor, the first with the index `first`.
// The step uses the moments before they are rounded. An element takes 16 random bits for each of
// weight, exp_avg and exp_avg_sq: the low and the high half of word 0 and the low half of word 1.
void adamw_bf16_step(const AdamWBf16Step& step, uint64_t first, BFloat* weight, BFloat* exp_avg,
                     BFloat* exp_avg_sq, const float* grad, int64_t count);

}  // namespace sutor::ops
