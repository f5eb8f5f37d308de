#include "checkpoint/quantized.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace sutor {
namespace {

// Sign, four bits of exponent with bias 7, three of mantissa; no infinities, all ones is NaN.
std::array<float, 256> make_fp8_table() {
  std::array<float, 256> table{};
  for (int bits = 0; bits < 256; ++bits) {
    const int exponent = bits >> 3 & 15, mantissa = bits & 7;
    float value = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
    if (exponent == 15 && mantissa == 7) value = std::numeric_limits<float>::quiet_NaN();
    table[static_cast<size_t>(bits)] = bits & 128 ? -value : value;
  }
  return table;
}

// The two elements of a byte.
using NibblePairs = std::array<std::array<float, 2>, 256>;

NibblePairs make_nibble_pairs() {
  constexpr std::array<float, 8> kMagnitudes = {0, .5f, 1, 1.5f, 2, 3, 4, 6};
  const auto value = [&](int nibble) {
    const float magnitude = kMagnitudes[static_cast<size_t>(nibble & 7)];
    return nibble & 8 ? -magnitude : magnitude;
  };
  NibblePairs pairs{};
  for (int byte = 0; byte < 256; ++byte) {
    pairs[static_cast<size_t>(byte)] = {value(byte & 15), value(byte >> 4)};
  }
  return pairs;
}

}  // namespace

float fp8_e4m3_value(uint8_t bits) {
  static const std::array<float, 256> table = make_fp8_table();
  return table[bits];
}

void dequantize_fp8(const std::byte* from, const BlockScales& scales, int64_t row, int64_t col,
                    int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = fp8_e4m3_value(static_cast<uint8_t>(from[i])) * scales.at(row, col + i);
  }
}

void dequantize_int4(const std::byte* packed, const BlockScales& scales, int64_t row, int64_t col,
                     int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t element = col + i;
    const auto byte = static_cast<uint8_t>(packed[element / 2]);
    const int nibble = element % 2 == 0 ? byte & 15 : byte >> 4;
    to[i] = static_cast<float>(nibble - 8) * scales.at(row, element);
  }
  if (scales.dtype == DType::kF32) return;
  std::vector<std::byte> rounded(static_cast<size_t>(count) * size_of(scales.dtype));
  auto* bytes = reinterpret_cast<std::byte*>(to);
  convert_elements(bytes, DType::kF32, rounded.data(), scales.dtype, count);
  convert_elements(rounded.data(), scales.dtype, bytes, DType::kF32, count);
}

void dequantize_mxfp4(const std::byte* blocks, const std::byte* scales, int64_t groups, float* to) {
  static const NibblePairs pairs = make_nibble_pairs();
  for (int64_t group = 0; group < groups; ++group) {
    const int exponent = static_cast<int>(scales[group]) - 127;
    // 2^128 is no float, though half of it is one: the product is made in two steps.
    const float scale = std::ldexp(1.0f, std::min(exponent, 127));
    const float again = exponent > 127 ? 2.0f : 1.0f;
    for (int64_t i = 0; i < kMxfp4GroupBytes; ++i) {
      const auto& pair = pairs[static_cast<size_t>(*blocks++)];
      *to++ = pair[0] * scale * again;
      *to++ = pair[1] * scale * again;
    }
  }
}

}  // namespace sutor
