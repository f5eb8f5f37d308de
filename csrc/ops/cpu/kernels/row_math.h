// Numbers in the inner loops of the kernels: bf16 to fp32 and back, and an exponential that
// vectorises. Compiled once a level, in its namespace.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "csrc/base/bf16.h"
#include "csrc/ops/cpu/row_kernels.h"

namespace sutor::ops::SUTOR_KERNEL_LEVEL {

inline float get(float x) { return x; }
inline float get(BFloat x) { return float_from_bf16(x.bits); }

inline void put(float& to, float x) { to = x; }
inline void put(BFloat& to, float x) { to.bits = bf16_from_float(x); }

template <typename T>
inline float rounded(float x) {
  T stored;
  put(stored, x);
  return get(stored);
}

// exp(x) to about 1 ulp, without branches, so that loops over it vectorise: 2^n * p(r).
inline float fast_exp(float x) {
  const float clamped = std::min(std::max(x, -87.3f), 88.7f);
  const float n = std::nearbyintf(clamped * 1.44269504088896341f);
  float r = clamped - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // 2^n in two factors: n reaches 128, whose power alone is no float.
  const int half = static_cast<int>(n) / 2;
  const int rest = static_cast<int>(n) - half;
  const float a = std::bit_cast<float>(static_cast<uint32_t>(half + 127) << 23);
  const float b = std::bit_cast<float>(static_cast<uint32_t>(rest + 127) << 23);
  const float value = p * a * b;
  return x < -87.3f ? 0.0f : (x != x ? x : value);
}

inline float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

}  // namespace sutor::ops::SUTOR_KERNEL_LEVEL
