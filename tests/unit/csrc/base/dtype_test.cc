// Conversions between fp32, bf16 and fp16: rounding, special values, untouched bits.
#include "csrc/base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/support/expect_error.h"

namespace sutor {
namespace {

template <typename To, typename From>
To convert(From value, DType from, DType to) {
  To result;
  convert_elements(reinterpret_cast<const std::byte*>(&value), from,
                   reinterpret_cast<std::byte*>(&result), to, 1);
  return result;
}

uint16_t to_bf16(float value) { return convert<uint16_t>(value, DType::kF32, DType::kBF16); }
uint16_t to_f16(float value) { return convert<uint16_t>(value, DType::kF32, DType::kF16); }
float from_bf16(uint16_t bits) { return convert<float>(bits, DType::kBF16, DType::kF32); }
float from_f16(uint16_t bits) { return convert<float>(bits, DType::kF16, DType::kF32); }

TEST(DType, NamesRoundTrip) {
  for (const char* name : {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}) {
    EXPECT_EQ(name_of(parse_dtype(name)), name);
  }
  EXPECT_EQ(parse_dtype("bf16"), DType::kBF16);
  testing::expect_error(ErrorCode::kBadDType, {"fp8"}, [] { parse_dtype("fp8"); });
}

TEST(DType, Bf16RoundsToNearestEven) {
  EXPECT_EQ(to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(to_bf16(1.0f + 0x1p-8f), 0x3f80);             // halfway, down to even
  EXPECT_EQ(to_bf16(1.0f + 3 * 0x1p-8f), 0x3f82);         // halfway, up to even
  EXPECT_EQ(to_bf16(1.0f + 0x1p-8f + 0x1p-20f), 0x3f81);  // above halfway
  EXPECT_EQ(to_bf16(-0.0f), 0x8000);
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()), 0x7f80);  // rounds to infinity
  EXPECT_EQ(to_bf16(-std::numeric_limits<float>::infinity()), 0xff80);
}

TEST(DType, NanStaysNan) {
  float nan;
  const uint32_t only_low_bits = 0x7f800001;  // truncation alone would make it infinity
  std::memcpy(&nan, &only_low_bits, 4);
  EXPECT_TRUE(std::isnan(from_bf16(to_bf16(nan))));
  EXPECT_TRUE(std::isnan(from_f16(to_f16(nan))));
  EXPECT_TRUE(std::isnan(from_f16(convert<uint16_t>(uint16_t{0x7fc0}, DType::kBF16, DType::kF16))));
}

TEST(DType, EveryBf16AndF16ValueSurvivesFp32) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    if (!std::isnan(from_bf16(half))) {
      ASSERT_EQ(to_bf16(from_bf16(half)), half);
    }
    if (!std::isnan(from_f16(half))) {
      ASSERT_EQ(to_f16(from_f16(half)), half);
    }
  }
}

TEST(DType, F16RoundsOverflowsAndKeepsSubnormals) {
  EXPECT_EQ(to_f16(65504.0f), 0x7bff);
  EXPECT_EQ(to_f16(65519.0f), 0x7bff);
  EXPECT_EQ(to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(to_f16(0x1p-24f), 0x0001);
  EXPECT_EQ(to_f16(0x1p-25f), 0x0000);         // halfway, to even
  EXPECT_EQ(to_f16(0x1.8p-24f), 0x0002);       // halfway, to even
  EXPECT_EQ(to_f16(1.0f + 0x1p-11f), 0x3c00);  // halfway, to even
  EXPECT_EQ(to_f16(1.0f + 3 * 0x1p-11f), 0x3c02);
}

TEST(DType, EqualTypesKeepEveryBit) {
  for (const uint16_t bits : {uint16_t{0x7f81}, uint16_t{0xffff}, uint16_t{0x8000}}) {
    EXPECT_EQ(convert<uint16_t>(bits, DType::kBF16, DType::kBF16), bits);
  }
}

TEST(DType, IntegersAreNotConverted) {
  testing::expect_error(ErrorCode::kNoConversion, {"I32", "F32"},
                        [] { convert<float>(int32_t{1}, DType::kI32, DType::kF32); });
}

}  // namespace
}  // namespace sutor
