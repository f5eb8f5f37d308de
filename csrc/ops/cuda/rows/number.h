// Numbers of the row kernels: bf16 as bits, to fp32 and back, and functions of which the host and a
// GPU have one each.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "csrc/ops/cuda/rows/block.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#endif

namespace sutor::ops::cuda {

struct Bf16 {
  uint16_t bits;
};

SUTOR_HOST_DEVICE inline float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
SUTOR_HOST_DEVICE inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

SUTOR_HOST_DEVICE inline float get(float x) { return x; }
SUTOR_HOST_DEVICE inline float get(Bf16 x) {
  return float_of_bits(static_cast<uint32_t>(x.bits) << 16);
}

SUTOR_HOST_DEVICE inline void put(float& to, float x) { to = x; }
// To the nearest, ties to even; NaN stays NaN.
SUTOR_HOST_DEVICE inline void put(Bf16& to, float x) {
#ifdef __CUDA_ARCH__
  to.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
#else
  const uint32_t bits = bits_of_float(x);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to.bits = static_cast<uint16_t>(nan ? (bits >> 16) | 0x40 : rounded);
#endif
}

template <typename T>
SUTOR_HOST_DEVICE float rounded(float x) {
  T stored;
  put(stored, x);
  return get(stored);
}

// Correctly rounded on both sides, whatever the flags.
SUTOR_HOST_DEVICE inline float square_root(float x) {
#ifdef __CUDA_ARCH__
  return __fsqrt_rn(x);
#else
  return std::sqrt(x);
#endif
}
SUTOR_HOST_DEVICE inline float quotient(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}

SUTOR_HOST_DEVICE inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

}  // namespace sutor::ops::cuda
