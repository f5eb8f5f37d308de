// fp32 to bf16 and back. Without branches, so that loops over them vectorise, and always inlined:
// kernels that are compiled for a newer CPU must not lend their copy to the rest of the program.
#pragma once

#include <bit>
#include <cstdint>

namespace sutor {

// The bf16 bits of a number rounded to nearest even; NaN stays NaN, with its sign.
[[gnu::always_inline]] inline uint16_t bf16_from_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return static_cast<uint16_t>(nan ? (bits >> 16) | 0x40 : rounded);
}

[[gnu::always_inline]] inline float float_from_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

}  // namespace sutor
