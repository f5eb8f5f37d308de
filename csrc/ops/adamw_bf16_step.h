// One step of AdamW on bf16 weights and moments with stochastic rounding: its factors, and which
// random bits an element takes. Free of torch; kernels of all devices read it. Sums and products
// are never contracted and no libm function is called, so that every device and vector width gives
// the same bits.
#pragma once

#include <cstdint>

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

}  // namespace sutor::ops
