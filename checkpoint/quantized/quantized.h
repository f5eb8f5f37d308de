// Matrices that are stored in fewer bits than they are computed with, and their scales.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "csrc/base/dtype.h"

namespace sutor {

enum class Encoding {
  kPlain,
  kFp8,         // F8_E4M3 [out, in], and scales
  kInt8,        // I8 [out, in], and scales
  kPackedInts,  // <name>_packed: I32 [out, in * bits / 32 rounded up], and scales
  kMxfp4,       // <name>_blocks: U8 [.., out, in / 32, 16], <name>_scales: U8 [.., out, in / 32]
};

inline constexpr std::string_view kFp8Dtype = "F8_E4M3", kE8m0Dtype = "F8_E8M0";
// DeepSeek's name of the scales of a matrix, and that of compressed-tensors.
inline constexpr std::string_view kScaleInv = "_scale_inv", kScale = "_scale";
inline constexpr std::string_view kPackedSuffix = "_packed", kZeroPoint = "_zero_point";
inline constexpr std::string_view kColumnOrder = "_g_idx", kPackedShape = "_shape";
inline constexpr std::string_view kMxfp4Blocks = "_blocks", kMxfp4Scales = "_scales";
inline constexpr int64_t kMxfp4Group = 32;       // elements that share a scale
inline constexpr int64_t kMxfp4GroupBytes = 16;  // of their elements

// A scale for each block of `block_rows` x `block_cols` elements; the last blocks may be smaller.
// With `group_of_column` each column says to which column of blocks it belongs.
struct BlockScales {
  std::vector<float> values;             // by rows of blocks, from row `row_begin` of them on
  std::vector<int8_t> zero_points;       // like `values`; empty: all zero
  std::vector<int32_t> group_of_column;  // empty: column / block_cols
  int64_t row_begin = 0;
  int64_t cols = 0;  // blocks in a row
  int64_t block_rows = 0, block_cols = 0;
  DType dtype = DType::kF32;    // as stored, unless
  bool exponents = false;       // a byte each, which stands for 2^(byte - 127)
  DType product = DType::kF32;  // to which elements times scales are rounded

  const float* row(int64_t row) const {
    return values.data() + (row / block_rows - row_begin) * cols;
  }
  const int8_t* zero_row(int64_t row) const {
    return zero_points.empty() ? nullptr
                               : zero_points.data() + (row / block_rows - row_begin) * cols;
  }
};

// Calls use(block, begin, end) for runs of columns of [begin, end) that share a scale.
template <typename Use>
void for_runs(const BlockScales& scales, int64_t begin, int64_t end, const Use& use) {
  for (int64_t column = begin; column < end;) {
    const bool ordered = !scales.group_of_column.empty();
    const int64_t block =
        ordered ? scales.group_of_column[static_cast<size_t>(column)] : column / scales.block_cols;
    const int64_t stop = ordered ? column + 1 : std::min(end, (block + 1) * scales.block_cols);
    use(block, column, stop);
    column = stop;
  }
}

float fp8_e4m3_value(uint8_t bits);
// 2^(bits - 127); 255 is not a number.
float e8m0_value(uint8_t bits);

// `count` elements as numbers, before their scales. FP8 and INT8: from the first wanted byte on.
void decode_fp8(const std::byte* from, int64_t count, float* to);
void decode_int8(const std::byte* from, int64_t count, float* to);
// `packed`: the whole row, elements of 2, 4 or 8 bits one behind the other, low bits first, each
// stored as its value plus half the range.
void decode_packed(const std::byte* packed, int bits, int64_t first, int64_t count, float* to);
// Turns decoded elements of row `row` from column `col` on into what they stand for: (element -
// zero point) * scale, rounded to `scales.product`.
void apply_scales(const BlockScales& scales, int64_t row, int64_t col, int64_t count,
                  float* values);

// `groups` groups of 32 elements: two elements per byte, the one with the even index in the low
// bits, each a sign, two bits of exponent and one of mantissa (0 .5 1 1.5 2 3 4 6) times 2^(scale -
// 127). `to`: 32 * groups values, exact except beyond fp32's range (scale 255), where they are
// infinite.
void dequantize_mxfp4(const std::byte* blocks, const std::byte* scales, int64_t groups, float* to);

// The nearest E4M3 number, the even one of two equally near ones; larger values give 448 with their
// sign. Not for NaN.
uint8_t fp8_e4m3_bits(float value);
inline constexpr float kFp8Largest = 448;
// The inverse of decode_packed for a whole row; bits behind the last element are zero.
void encode_packed(const float* values, int bits, int64_t count, std::byte* to);

// 32 finite values -> 16 bytes of elements, and the scale, which is returned: of the two powers of
// two that suit the largest value, the one with the smaller sum of squared errors, or the smaller
// one when the errors are equal (the OCP specification takes the smaller one: 2^(floor(log2
// largest) - 2)). Elements are the nearest ones, ties to even.
std::byte quantize_mxfp4_group(const float* values, std::byte* block);

}  // namespace sutor
