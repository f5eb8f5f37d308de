#include "csrc/base/dtype.h"

#include <array>
#include <cstring>

#include "csrc/base/error.h"

namespace sutor {
namespace {

struct Row {
  DType dtype;
  size_t size;
  std::string_view name;
};
constexpr std::array<Row, 10> kRows = {{{DType::kF64, 8, "F64"},
                                        {DType::kF32, 4, "F32"},
                                        {DType::kF16, 2, "F16"},
                                        {DType::kBF16, 2, "BF16"},
                                        {DType::kI64, 8, "I64"},
                                        {DType::kI32, 4, "I32"},
                                        {DType::kI16, 2, "I16"},
                                        {DType::kI8, 1, "I8"},
                                        {DType::kU8, 1, "U8"},
                                        {DType::kBool, 1, "BOOL"}}};

uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

uint16_t bf16_from(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float float_from_bf16(uint16_t value) { return float_of(static_cast<uint32_t>(value) << 16); }

float float_from_f16(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t exponent = (h >> 10) & 0x1f;
  const uint32_t fraction = h & 0x3ff;
  if (exponent == 31) return float_of(sign | 0x7f800000u | (fraction << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return float_of(sign | ((exponent + 112) << 23) | (fraction << 13));
}

uint16_t f16_from(float value) {
  const uint32_t bits = bits_of(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00;  // rounds to infinity
  if (magnitude <
      0x38800000u) {  // subnormal half: let the float adder round to a multiple of 2^-24
    const float shifted = float_of(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (bits_of(shifted) - bits_of(0.5f)));
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - (112u << 23)) >> 13));
}

template <typename From, typename To, To (*convert)(From)>
void loop(const std::byte* from, std::byte* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * sizeof(From), sizeof(From));
    const To result = convert(value);
    std::memcpy(to + i * sizeof(To), &result, sizeof(To));
  }
}

uint16_t bf16_from_f16(uint16_t v) { return bf16_from(float_from_f16(v)); }
uint16_t f16_from_bf16(uint16_t v) { return f16_from(float_from_bf16(v)); }

}  // namespace

size_t size_of(DType dtype) {
  for (const Row& row : kRows) {
    if (row.dtype == dtype) return row.size;
  }
  internal_error(__FILE__, __LINE__, "known dtype");
}

std::string_view name_of(DType dtype) {
  for (const Row& row : kRows) {
    if (row.dtype == dtype) return row.name;
  }
  internal_error(__FILE__, __LINE__, "known dtype");
}

DType parse_dtype(std::string_view text) {
  if (text == "fp32") return DType::kF32;
  if (text == "bf16") return DType::kBF16;
  if (text == "fp16") return DType::kF16;
  for (const Row& row : kRows) {
    if (row.name == text) return row.dtype;
  }
  fail(ErrorCode::kBadDType, "unknown dtype `{}`: expected fp32, bf16 or fp16", text);
}

void convert_elements(const std::byte* from, DType from_dtype, std::byte* to, DType to_dtype,
                      int64_t count) {
  if (count == 0) return;  // the pointers of nothing may be null
  if (from_dtype == to_dtype) {
    std::memcpy(to, from, static_cast<size_t>(count) * size_of(from_dtype));
    return;
  }
  const auto is = [&](DType a, DType b) { return from_dtype == a && to_dtype == b; };
  if (is(DType::kF32, DType::kBF16)) return loop<float, uint16_t, bf16_from>(from, to, count);
  if (is(DType::kBF16, DType::kF32)) return loop<uint16_t, float, float_from_bf16>(from, to, count);
  if (is(DType::kF32, DType::kF16)) return loop<float, uint16_t, f16_from>(from, to, count);
  if (is(DType::kF16, DType::kF32)) return loop<uint16_t, float, float_from_f16>(from, to, count);
  if (is(DType::kF16, DType::kBF16))
    return loop<uint16_t, uint16_t, bf16_from_f16>(from, to, count);
  if (is(DType::kBF16, DType::kF16))
    return loop<uint16_t, uint16_t, f16_from_bf16>(from, to, count);
  fail(ErrorCode::kNoConversion, "cannot convert {} to {}", name_of(from_dtype), name_of(to_dtype));
}

}  // namespace sutor
