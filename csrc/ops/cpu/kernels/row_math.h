// Numbers in the inner loops of the kernels: bf16 to fp32 and back, and an exponential that
// vectorises. Compiled once a level, in its namespace.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "csrc/ops/cpu/row_kernels.h"

namespace sutor::ops::SUTOR_KERNEL_LEVEL {

inline float bits_to_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline float get(float x) { return x; }
inline float get(BFloat x) { return bits_to_float(static_cast<uint32_t>(x.bits) << 16); }

inline void put(float& to, float x) { to = x; }
inline void put(BFloat& to, float x) {  // round to nearest even; NaN stays NaN
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  to.bits = static_cast<uint16_t>(nan ? (bits >> 16) | 0x40 : rounded);
}

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
  const float a = bits_to_float(static_cast<uint32_t>(half + 127) << 23);
  const float b = bits_to_float(static_cast<uint32_t>(rest + 127) << 23);
  const float value = p * a * b;
  return x < -87.3f ? 0.0f : (x != x ? x : value);
}

inline float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

}  // namespace sutor::ops::SUTOR_KERNEL_LEVEL
