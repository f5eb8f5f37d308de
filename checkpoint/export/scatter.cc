#include "checkpoint/export/scatter.h"

#include <algorithm>
#include <cstring>

#include "csrc/base/error.h"

namespace sutor {
namespace {

template <typename Bits>
void scatter(const std::byte* from, int64_t rows, int64_t columns, std::byte* to,
             int64_t row_stride, int64_t col_stride) {
  constexpr int64_t kTile = 32;  // rows, which lie side by side in a transposed matrix
  for (int64_t tile = 0; tile < rows; tile += kTile) {
    const int64_t stop = std::min(rows, tile + kTile);
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t r = tile; r < stop; ++r) {
        std::memcpy(to + r * row_stride + c * col_stride,
                    from + (r * columns + c) * static_cast<int64_t>(sizeof(Bits)), sizeof(Bits));
      }
    }
  }
}

}  // namespace

void scatter_rows(const std::byte* from, int64_t rows, int64_t columns, int64_t element,
                  std::byte* to, int64_t row_stride, int64_t col_stride) {
  if (col_stride == element) {
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(to + r * row_stride, from + r * columns * element,
                  static_cast<size_t>(columns * element));
    }
    return;
  }
  SUTOR_ASSERT(element == 2 || element == 4);
  const auto put = element == 2 ? scatter<uint16_t> : scatter<uint32_t>;
  put(from, rows, columns, to, row_stride, col_stride);
}

}  // namespace sutor
