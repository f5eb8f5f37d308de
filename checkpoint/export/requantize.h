// Trained values on their way back into a quantised form: new scales, nearest elements, and what
// that costs. FP8: of each block of the base's size the scale is its largest magnitude / 448, in
// the base's dtype for scales (1 where all are zero). MXFP4: see quantize_mxfp4_group.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/export/trained_tensor.h"
#include "checkpoint/huggingface/quantized.h"

namespace sutor {

// A matrix whose rows are had as numbers, whatever they are kept as.
struct FloatRows {
  std::string name;
  int64_t rows = 0, columns = 0;  // all axes but the first flattened
  std::function<void(int64_t row, int64_t count, float* into)> read;
};
// `trained` and `base` must outlive them.
FloatRows rows_of(const TrainedTensor& trained);
FloatRows rows_of(const ModelDirectory& base, const TensorEntry& tensor);

// Some rows of a re-quantised matrix.
struct QuantizedRows {
  int64_t row = 0, count = 0;
  const std::byte* elements = nullptr;  // FP8: a byte each; MXFP4: two in a byte
  const float* wanted = nullptr;        // what was to be stored
  const float* stored = nullptr;        // what the elements and scales stand for
};
using QuantizedSink = std::function<void(const QuantizedRows&)>;

// Give all rows to `sink` in their order and return the bytes of the scales. A row of blocks is
// held at a time, of MXFP4 about a MiB. Throw E0319 naming the matrix when a value is not finite.
std::vector<std::byte> requantize_fp8(const FloatRows& values, const BlockScales& base,
                                      const QuantizedSink& sink);
std::vector<std::byte> requantize_mxfp4(const FloatRows& values, const QuantizedSink& sink);

// Squared sums over a tensor, or over several.
struct RoundingSums {
  double error = 0;   // of stored - trained
  double values = 0;  // of trained
  double update = 0;  // of trained - base
  double base = 0;

  void add(const RoundingSums& other);
  double relative_error() const;   // L2 norm of the error over that of the trained values
  double relative_update() const;  // L2 norm of the change by training over that of the base
};

}  // namespace sutor
