// The factors of a step of AdamW in bf16: once a tensor, the same at every level of kernels.
#include "csrc/ops/adamw_bf16_step.h"

#include <cmath>

#include "csrc/base/random.h"

namespace sutor::ops {
namespace {

// By multiplications alone: pow() may differ between libraries.
double power(double base, int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1, base *= base) {
    if (exponent & 1) result *= base;
  }
  return result;
}

}  // namespace

AdamWBf16Step adamw_bf16_at(const AdamWConstants& c, const RoundingStream& stream, bool decays) {
  const double correction1 = 1 - power(c.beta1, stream.step);
  const double correction2 = 1 - power(c.beta2, stream.step);
  const uint64_t key = mix64(mix64(stream.seed) ^ static_cast<uint64_t>(stream.step));
  AdamWBf16Step step;
  step.keep1 = static_cast<float>(c.beta1);
  step.take1 = static_cast<float>(1 - c.beta1);
  step.keep2 = static_cast<float>(c.beta2);
  step.take2 = static_cast<float>(1 - c.beta2);
  step.decay = decays ? static_cast<float>(1 - c.lr * c.weight_decay) : 1.0f;
  step.rate = static_cast<float>(c.lr / correction1);
  step.root = static_cast<float>(1 / std::sqrt(correction2));
  step.eps = static_cast<float>(c.eps);
  step.key0 = static_cast<uint32_t>(key);
  step.key1 = static_cast<uint32_t>(key >> 32);
  step.name0 = static_cast<uint32_t>(stream.tensor);
  step.name1 = static_cast<uint32_t>(stream.tensor >> 32);
  return step;
}

}  // namespace sutor::ops
