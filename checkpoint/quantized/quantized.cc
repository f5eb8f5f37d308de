#include "checkpoint/quantized/quantized.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
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

constexpr std::array<float, 8> kE2m1 = {0, .5f, 1, 1.5f, 2, 3, 4, 6};

// The two elements of a byte.
using NibblePairs = std::array<std::array<float, 2>, 256>;

NibblePairs make_nibble_pairs() {
  const auto value = [&](int nibble) {
    const float magnitude = kE2m1[static_cast<size_t>(nibble & 7)];
    return nibble & 8 ? -magnitude : magnitude;
  };
  NibblePairs pairs{};
  for (int byte = 0; byte < 256; ++byte) {
    pairs[static_cast<size_t>(byte)] = {value(byte & 15), value(byte >> 4)};
  }
  return pairs;
}

template <int kBits>
void unpack(const std::byte* packed, int64_t first, int64_t count, float* to) {
  constexpr int64_t kPerByte = 8 / kBits;
  constexpr int kMask = (1 << kBits) - 1, kHalf = 1 << (kBits - 1);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t element = first + i;
    const int byte = static_cast<uint8_t>(packed[element / kPerByte]);
    to[i] = static_cast<float>((byte >> (element % kPerByte * kBits) & kMask) - kHalf);
  }
}

// Ties go to the even code: 0.25 to 0, 0.75 to 1, 1.25 to 1, 1.75 to 2, 2.5 to 2, 3.5 to 4, 5 to 4.
int e2m1_code(float magnitude) {
  return (magnitude > .25f) + (magnitude >= .75f) + (magnitude > 1.25f) + (magnitude >= 1.75f) +
         (magnitude > 2.5f) + (magnitude >= 3.5f) + (magnitude > 5.0f);
}

// Fills a byte of `block` for each two values; returns the sum of squared errors.
double quantize_group(const float* values, int scale, std::byte* block) {
  const double unit = std::ldexp(1.0, scale - 127), inverse = std::ldexp(1.0, 127 - scale);
  double error = 0;
  for (int64_t i = 0; i < kMxfp4GroupBytes; ++i) {
    int byte = 0;
    for (int half = 0; half < 2; ++half) {
      const float value = *values++;
      const int code = e2m1_code(static_cast<float>(std::abs(value) * inverse));
      const double left = std::abs(value) - kE2m1[static_cast<size_t>(code)] * unit;
      error += left * left;
      byte |= (code | (std::signbit(value) ? 8 : 0)) << (4 * half);
    }
    block[i] = static_cast<std::byte>(byte);
  }
  return error;
}

}  // namespace

float fp8_e4m3_value(uint8_t bits) {
  static const std::array<float, 256> table = make_fp8_table();
  return table[bits];
}

float e8m0_value(uint8_t bits) {
  if (bits == 255) return std::numeric_limits<float>::quiet_NaN();
  return std::ldexp(1.0f, static_cast<int>(bits) - 127);
}

void decode_fp8(const std::byte* from, int64_t count, float* to) {
  static const std::array<float, 256> table = make_fp8_table();
  for (int64_t i = 0; i < count; ++i) to[i] = table[static_cast<uint8_t>(from[i])];
}

void decode_int8(const std::byte* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(static_cast<int8_t>(from[i]));
}

void decode_packed(const std::byte* packed, int bits, int64_t first, int64_t count, float* to) {
  (bits == 2 ? unpack<2> : bits == 4 ? unpack<4> : unpack<8>)(packed, first, count, to);
}

void encode_packed(const float* values, int bits, int64_t count, std::byte* to) {
  const int per_byte = 8 / bits, half = 1 << (bits - 1);
  std::fill(to, to + (count * bits + 31) / 32 * 4, std::byte{0});
  for (int64_t i = 0; i < count; ++i) {
    const int code = static_cast<int>(values[i]) + half;
    to[i / per_byte] |= static_cast<std::byte>(code << (i % per_byte * bits));
  }
}

void apply_scales(const BlockScales& scales, int64_t row, int64_t col, int64_t count,
                  float* values) {
  const float* const scale_row = scales.row(row);
  const int8_t* const zeros = scales.zero_row(row);
  for_runs(scales, col, col + count, [&](int64_t block, int64_t begin, int64_t end) {
    const float scale = scale_row[block];
    const float zero = zeros ? static_cast<float>(zeros[block]) : 0.0f;
    for (int64_t c = begin; c < end; ++c) values[c - col] = (values[c - col] - zero) * scale;
  });
  if (scales.product == DType::kF32) return;
  std::vector<std::byte> rounded(static_cast<size_t>(count) * size_of(scales.product));
  auto* bytes = reinterpret_cast<std::byte*>(values);
  convert_elements(bytes, DType::kF32, rounded.data(), scales.product, count);
  convert_elements(rounded.data(), scales.product, bytes, DType::kF32, count);
}

void dequantize_mxfp4(const std::byte* blocks, const std::byte* scales, int64_t groups, float* to) {
  static const NibblePairs pairs = make_nibble_pairs();
  for (int64_t group = 0; group < groups; ++group) {
    const int exponent = static_cast<int>(scales[group]) - 127;
    // 2^128 is not a float, but half of it is: the product is computed in two steps.
    const float scale = std::ldexp(1.0f, std::min(exponent, 127));
    const float again = exponent > 127 ? 2.0f : 1.0f;
    for (int64_t i = 0; i < kMxfp4GroupBytes; ++i) {
      const auto& pair = pairs[static_cast<size_t>(*blocks++)];
      *to++ = pair[0] * scale * again;
      *to++ = pair[1] * scale * again;
    }
  }
}

uint8_t fp8_e4m3_bits(float value) {
  const float magnitude = std::abs(value);
  int code = 0x7e;
  if (magnitude < 0x1p-6f) {
    // Multiples of 2^-9; eight of them are the smallest number with an exponent.
    code = static_cast<int>(std::nearbyint(magnitude * 0x1p9f));
  } else if (magnitude < kFp8Largest) {
    uint32_t bits;
    std::memcpy(&bits, &magnitude, sizeof(bits));
    bits += 0x7ffff + (bits >> 20 & 1);
    code = static_cast<int>(bits >> 20) - ((127 - 7) << 3);
  }
  return static_cast<uint8_t>(code | (std::signbit(value) ? 0x80 : 0));
}

std::byte quantize_mxfp4_group(const float* values, std::byte* block) {
  float largest = 0;
  for (int64_t i = 0; i < kMxfp4Group; ++i) largest = std::max(largest, std::abs(values[i]));
  const int exponent = largest > 0 ? std::ilogb(largest) - 2 : -127;
  const int scale = std::clamp(exponent + 127, 0, 254);
  const double error = quantize_group(values, scale, block);
  if (error > 0 && scale < 254) {
    std::array<std::byte, kMxfp4GroupBytes> other;
    if (quantize_group(values, scale + 1, other.data()) < error) {
      std::copy(other.begin(), other.end(), block);
      return static_cast<std::byte>(scale + 1);
    }
  }
  return static_cast<std::byte>(scale);
}

}  // namespace sutor
