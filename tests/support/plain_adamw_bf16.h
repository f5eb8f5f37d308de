// One element of AdamW in bf16 with stochastic rounding, as the textbook has it: what the tests of
// its kernels compare with. Files that include it are compiled without contracting products.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "csrc/base/random.h"
#include "csrc/ops/adamw_bf16_step.h"
#include "csrc/ops/philox.h"

namespace sutor::testing {

inline float float_of_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// The neighbour below x in magnitude, or the one above it when the part between, of 65536, and the
// random number reach over; as bits.
inline uint16_t rounded_by(float x, uint32_t random) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t up = (bits & 0xffff) + random >= 65536 ? 1 : 0;
  return static_cast<uint16_t>((bits >> 16) + up);
}

// w, m, v: the bits of weight, exp_avg and exp_avg_sq. index: of the element in its tensor.
inline void plain_adamw_bf16(const ops::AdamWConstants& c, const ops::RoundingStream& stream,
                             bool decays, uint64_t index, uint16_t& w, uint16_t& m, uint16_t& v,
                             float g) {
  const uint64_t key = mix64(mix64(stream.seed) ^ static_cast<uint64_t>(stream.step));
  const ops::PhiloxWords random = ops::philox4x32(
      {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
       static_cast<uint32_t>(stream.tensor), static_cast<uint32_t>(stream.tensor >> 32)},
      static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
  double power1 = 1, power2 = 1;
  for (int64_t t = 0; t < stream.step; ++t) power1 *= c.beta1, power2 *= c.beta2;
  const float first =
      static_cast<float>(c.beta1) * float_of_bf16(m) + static_cast<float>(1 - c.beta1) * g;
  const float second =
      static_cast<float>(c.beta2) * float_of_bf16(v) + static_cast<float>(1 - c.beta2) * g * g;
  const float divisor =
      static_cast<float>(1 / std::sqrt(1 - power2)) * std::sqrt(second) + static_cast<float>(c.eps);
  const float decay = decays ? static_cast<float>(1 - c.lr * c.weight_decay) : 1;
  const float decayed = decay * float_of_bf16(w);
  w = rounded_by(decayed - static_cast<float>(c.lr / (1 - power1)) * (first / divisor),
                 random.x0 & 0xffff);
  m = rounded_by(first, random.x0 >> 16);
  v = rounded_by(second, random.x1 & 0xffff);
}

}  // namespace sutor::testing
