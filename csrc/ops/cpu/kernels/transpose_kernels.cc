#include "csrc/ops/cpu/transpose_kernels.h"

#include <algorithm>
#include <cstring>

#include "csrc/ops/cpu/kernels/kernel_table.h"
#include "csrc/ops/cpu/kernels/row_math.h"

namespace sutor::ops::SUTOR_KERNEL_LEVEL {
namespace {

// Sixteen words, and a square of them that transposes itself: in each of four rounds neighbours at
// the distance 1, 2, 4, 8 exchange halves.
constexpr int64_t kLanes = 16;
typedef float Vector __attribute__((vector_size(64), aligned(4)));
typedef int32_t Lanes __attribute__((vector_size(64)));

template <int kDistance>
inline void exchange(Vector* rows) {
  Lanes low, high;
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool first = (lane & kDistance) == 0;
    low[lane] = first ? lane : kLanes + lane - kDistance;
    high[lane] = first ? lane + kDistance : kLanes + lane;
  }
  for (int r = 0; r < kLanes; ++r) {
    if (r & kDistance) continue;
    const Vector a = rows[r], b = rows[r + kDistance];
    rows[r] = __builtin_shuffle(a, b, low);
    rows[r + kDistance] = __builtin_shuffle(a, b, high);
  }
}

inline void transpose_square(Vector* rows) {
  exchange<1>(rows);
  exchange<2>(rows);
  exchange<4>(rows);
  exchange<8>(rows);
}

}  // namespace

void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t cols, float* to,
               int64_t to_stride) {
  for (int64_t r = 0; r < to_stride; r += kLanes) {
    const int64_t height = std::min(kLanes, rows - r), room = std::min(kLanes, to_stride - r);
    for (int64_t c = 0; c < cols; c += kLanes) {
      const int64_t width = std::min(kLanes, cols - c);
      Vector square[kLanes] = {};
      for (int64_t i = 0; i < height; ++i) {
        const float* row = from + (r + i) * from_stride + c;
        if (width == kLanes) {
          std::memcpy(&square[i], row, sizeof(Vector));
        } else {
          std::memcpy(&square[i], row, static_cast<size_t>(width) * 4);
        }
      }
      transpose_square(square);
      for (int64_t i = 0; i < width; ++i) {
        float* row = to + (c + i) * to_stride + r;
        if (room == kLanes) {
          std::memcpy(row, &square[i], sizeof(Vector));
        } else {
          std::memcpy(row, &square[i], static_cast<size_t>(room) * 4);
        }
      }
    }
  }
}

template <typename T>
void transpose_back(const float* from, int64_t from_stride, int64_t cols, int64_t rows, T* to,
                    int64_t to_stride) {
  for (int64_t r = 0; r < rows; r += kLanes) {
    const int64_t height = std::min(kLanes, rows - r);
    for (int64_t c = 0; c < cols; c += kLanes) {
      const int64_t width = std::min(kLanes, cols - c);
      Vector square[kLanes] = {};
      for (int64_t i = 0; i < width; ++i) {
        const float* row = from + (c + i) * from_stride + r;
        if (from_stride - r >= kLanes) {
          std::memcpy(&square[i], row, sizeof(Vector));
        } else {
          std::memcpy(&square[i], row, static_cast<size_t>(height) * 4);
        }
      }
      transpose_square(square);
      for (int64_t i = 0; i < height; ++i) {
        T* row = to + (r + i) * to_stride + c;
        if (width == kLanes) {
#pragma omp simd
          for (int64_t j = 0; j < kLanes; ++j) put(row[j], square[i][j]);
        } else {
          for (int64_t j = 0; j < width; ++j) put(row[j], square[i][j]);
        }
      }
    }
  }
}

void interleave_pairs(const BFloat* from, int64_t from_stride, int64_t rows, int64_t cols,
                      uint32_t* to) {
  for (int64_t r = 0; r + 1 < rows; r += 2, to += cols) {
    const uint16_t* first = &from[r * from_stride].bits;
    const uint16_t* second = first + from_stride;
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) {
      to[c] = static_cast<uint32_t>(first[c]) | static_cast<uint32_t>(second[c]) << 16;
    }
  }
}

void add_transpose_kernels(KernelTable& table) {
  table.transpose = transpose;
  table.of_float.transpose_back = transpose_back<float>;
  table.of_bfloat.transpose_back = transpose_back<BFloat>;
  table.interleave_pairs = interleave_pairs;
}

}  // namespace sutor::ops::SUTOR_KERNEL_LEVEL
