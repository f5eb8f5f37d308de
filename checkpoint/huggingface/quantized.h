// Matrices that are stored in fewer bits than they are computed with, and their scales.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "csrc/base/dtype.h"

namespace sutor {

enum class Encoding {
  kPlain,
  kFp8Blocks,   // F8_E4M3 [out, in] and <name>_scale_inv: a scale for each block
  kInt4Groups,  // <name>_packed: I32 [out, in / 8], and <name>_scale: a scale for each group
  kMxfp4,       // <name>_blocks: U8 [.., out, in / 32, 16], <name>_scales: U8 [.., out, in / 32]
};

inline constexpr std::string_view kFp8Dtype = "F8_E4M3";
inline constexpr std::string_view kFp8Scale = "_scale_inv";
inline constexpr std::string_view kPackedSuffix = "_packed", kPackedScale = "_scale";
inline constexpr std::string_view kPackedShape = "_shape";
inline constexpr std::string_view kMxfp4Blocks = "_blocks", kMxfp4Scales = "_scales";
inline constexpr int64_t kMxfp4Group = 32;       // elements that share a scale
inline constexpr int64_t kMxfp4GroupBytes = 16;  // of their elements

// A scale for each block of `block_rows` x `block_cols` elements; the last blocks may be smaller.
struct BlockScales {
  std::vector<float> values;  // by rows of blocks, from row `row_begin` of them on
  int64_t row_begin = 0;
  int64_t cols = 0;  // blocks in a row
  int64_t block_rows = 0, block_cols = 0;
  DType dtype = DType::kF32;  // as stored

  float at(int64_t row, int64_t col) const {
    return values[static_cast<size_t>((row / block_rows - row_begin) * cols + col / block_cols)];
  }
};

float fp8_e4m3_value(uint8_t bits);

// `count` elements of row `row`, starting at column `col`. FP8: one byte per element; the product
// is in fp32.
void dequantize_fp8(const std::byte* from, const BlockScales& scales, int64_t row, int64_t col,
                    int64_t count, float* to);
// `packed`: the whole row, eight elements per 32-bit word, low bits first, each stored as its value
// plus 8. The product is rounded to the dtype of the scales.
void dequantize_int4(const std::byte* packed, const BlockScales& scales, int64_t row, int64_t col,
                     int64_t count, float* to);

// `groups` groups of 32 elements: two elements per byte, the one with the even index in the low
// bits, each a sign, two bits of exponent and one of mantissa (0 .5 1 1.5 2 3 4 6) times 2^(scale -
// 127). `to`: 32 * groups values, exact except beyond fp32's range (scale 255), where they are
// infinite.
void dequantize_mxfp4(const std::byte* blocks, const std::byte* scales, int64_t groups, float* to);

// The nearest E4M3 number, the even one of two equally near ones; larger values give 448 with their
// sign. Not for NaN.
uint8_t fp8_e4m3_bits(float value);
inline constexpr float kFp8Largest = 448;

// 32 finite values -> 16 bytes of elements, and the scale, which is returned: of the two powers of
// two that suit the largest value, the one with the smaller sum of squared errors, or the smaller
// one when the errors are equal (the OCP specification takes the smaller one: 2^(floor(log2
// largest) - 2)). Elements are the nearest ones, ties to even.
std::byte quantize_mxfp4_group(const float* values, std::byte* block);

}  // namespace sutor
