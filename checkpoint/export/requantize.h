// Quantises trained values again: new scales and zero points for the base's blocks, in its dtypes,
// nearest elements, and the rounding error. The rules are in checkpoint/FORMAT.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/export/new_scales.h"
#include "checkpoint/export/trained_tensor.h"

namespace sutor {

// A matrix whose rows can be read as fp32, whatever their stored form.
struct FloatRows {
  std::string name;
  int64_t rows = 0, columns = 0;  // all axes but the first flattened
  std::function<void(int64_t row, int64_t count, float* into)> read;
};
// `trained` and `base` must outlive them.
FloatRows rows_of(const TrainedTensor& trained);
FloatRows rows_of(const ModelDirectory& base, const TensorEntry& tensor);

// Some rows of a re-quantised matrix, in both forms.
struct QuantizedRows {
  int64_t row = 0, count = 0;
  const std::byte* elements = nullptr;  // as the base stores its rows
  const float* wanted = nullptr;        // the trained values
  const float* stored = nullptr;        // the values that elements and scales stand for
};
using QuantizedSink = std::function<void(const QuantizedRows&)>;

// Give all rows to `sink` in order and return what belongs to them. They need memory for some rows,
// and read the values twice where a block has more. Throw E0319 naming the matrix when a value is
// not finite.
QuantizedScales requantize_matrix(const FloatRows& values, const QuantizedForm& form,
                                  const QuantizedSink& sink);
QuantizedScales requantize_mxfp4(const FloatRows& values, const QuantizedSink& sink);

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
