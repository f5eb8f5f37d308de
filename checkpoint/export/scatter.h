// Writes rows of elements into a stored matrix that is interleaved or transposed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sutor {

// `from`: rows x columns elements of `element` bytes (2 or 4), row after row. Element c of row r
// goes to `to` + r * row_stride + c * col_stride, in bytes.
void scatter_rows(const std::byte* from, int64_t rows, int64_t columns, int64_t element,
                  std::byte* to, int64_t row_stride, int64_t col_stride);

}  // namespace sutor
