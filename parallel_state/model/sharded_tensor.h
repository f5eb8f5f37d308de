// A shard of a logical tensor in this process's memory: what model and checkpoint exchange.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "csrc/base/dtype.h"

namespace sutor {

// Rows [row_begin, row_begin + row_count) of the logical tensor `name`; a row is one index of the
// first axis (1-D tensors: one element). It holds all elements of each row, or those in [col_begin,
// col_begin + col_count) of its flattened other axes, contiguously at `data`, which it does not
// own.
struct ShardedTensor {
  std::string name;  // global HF name
  DType dtype = DType::kF32;
  std::vector<int64_t> global_shape;
  int64_t row_begin = 0;
  int64_t row_count = 0;
  int64_t col_begin = 0;
  int64_t col_count = -1;  // -1: all
  std::byte* data = nullptr;

  int64_t row_elements() const {
    int64_t n = 1;
    for (size_t i = 1; i < global_shape.size(); ++i) n *= global_shape[i];
    return n;
  }
  int64_t columns() const { return col_count < 0 ? row_elements() : col_count; }
  bool has_whole_rows() const { return columns() == row_elements(); }
  // Whether the logical tensor has these rows and columns.
  bool lies_inside() const {
    const int64_t rows = global_shape.empty() ? 1 : global_shape[0];
    return row_begin >= 0 && row_count >= 0 && row_begin <= rows - row_count && col_begin >= 0 &&
           col_begin <= row_elements() - columns();
  }
  int64_t num_elements() const { return row_count * columns(); }
  size_t num_bytes() const { return static_cast<size_t>(num_elements()) * size_of(dtype); }
};

}  // namespace sutor
