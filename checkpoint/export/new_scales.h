// The scales and zero points of a matrix that is quantised again, in the form in which the base has
// them. The rules are in checkpoint/FORMAT.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "checkpoint/huggingface/model_directory.h"
#include "checkpoint/quantized/quantized.h"

namespace sutor {

// The form of a matrix that is not MXFP4.
struct QuantizedForm {
  Encoding encoding = Encoding::kFp8;
  int bits = 8;  // of integers
  int64_t row_bytes = 0;
  BlockScales base;                 // the blocks, and what the base has
  bool zero_points = false;         // whether there are any
  bool packed_zero_points = false;  // along the rows
  // Scales are powers of two; `mx_scales`: by the rule of compressed-tensors for MXFP8.
  bool powers_of_two = false, mx_scales = false;
  bool inverse_name = false;  // `<name>_scale_inv`
};
QuantizedForm quantized_form(const ResolvedSource& found, const TensorEntry& tensor,
                             const ModelDirectory& base);

// The bytes of a matrix's scales and, where the base has them, of its zero points.
struct QuantizedScales {
  std::vector<std::byte> scales, zero_points;
};

// The smallest and the largest value of each block, and zero.
struct Extremes {
  std::vector<float> least, most;

  explicit Extremes(size_t blocks) : least(blocks, 0.0f), most(blocks, 0.0f) {}
};

// Sets values and zero points of `scales`, which has the base's blocks, to what will be stored for
// blocks with these extremes, and appends the stored bytes of the scales to `bytes`.
void set_scales(const QuantizedForm& form, const Extremes& extremes, BlockScales& scales,
                std::vector<std::byte>& bytes);

// Of the whole matrix: a byte each, or packed along the rows.
std::vector<std::byte> stored_zero_points(const QuantizedForm& form,
                                          const std::vector<int8_t>& zeros);

}  // namespace sutor
