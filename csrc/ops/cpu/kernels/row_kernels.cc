#include "csrc/ops/cpu/row_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "csrc/ops/cpu/kernels/kernel_table.h"
#include "csrc/ops/cpu/kernels/row_math.h"

namespace sutor::ops::SUTOR_KERNEL_LEVEL {

template <typename T>
void rms_norm_forward(const T* x, const T* w, T* y, float* rstd, int64_t rows, int64_t cols,
                      float eps, bool round_before_weight) {
  for (int64_t r = 0; r < rows; ++r, x += cols, y += cols) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < cols; ++c) sum += get(x[c]) * get(x[c]);
    const float scale = 1.0f / std::sqrt(sum / static_cast<float>(cols) + eps);
    rstd[r] = scale;
    if (round_before_weight) {
#pragma omp simd
      for (int64_t c = 0; c < cols; ++c) put(y[c], get(w[c]) * rounded<T>(get(x[c]) * scale));
    } else {
#pragma omp simd
      for (int64_t c = 0; c < cols; ++c) put(y[c], get(w[c]) * (get(x[c]) * scale));
    }
  }
}

template <typename T>
void rms_norm_backward(const T* dy, const T* x, const T* w, const float* rstd, T* dx, int64_t rows,
                       int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, x += cols, dy += cols, dx += cols) {
    const float scale = rstd[r];
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t c = 0; c < cols; ++c) dot += get(dy[c]) * get(w[c]) * get(x[c]);
    const float mean = dot * scale * scale / static_cast<float>(cols);
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) {
      put(dx[c], scale * (get(dy[c]) * get(w[c]) - get(x[c]) * mean));
    }
  }
}

template <typename T>
void sum_rows(const T* rows, const int64_t* position, T* y, int64_t tokens, int64_t k,
              int64_t cols) {
  constexpr int64_t kBlock = 256;
  float sum[kBlock];
  for (int64_t t = 0; t < tokens; ++t, position += k, y += cols) {
    for (int64_t begin = 0; begin < cols; begin += kBlock) {
      const int64_t n = std::min(kBlock, cols - begin);
      std::fill(sum, sum + n, 0.0f);
      for (int64_t j = 0; j < k; ++j) {
        const T* row = rows + position[j] * cols + begin;
#pragma omp simd
        for (int64_t c = 0; c < n; ++c) sum[c] += get(row[c]);
      }
#pragma omp simd
      for (int64_t c = 0; c < n; ++c) put(y[begin + c], sum[c]);
    }
  }
}

template <typename T>
void gather_rows(const T* from, const int64_t* index, T* to, int64_t count, int64_t cols) {
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(to + i * cols, from + index[i] * cols, static_cast<size_t>(cols) * sizeof(T));
  }
}

template <typename T>
void load_rows(const T* from, int64_t from_stride, float* to, int64_t to_stride, int64_t rows,
               int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, from += from_stride, to += to_stride) {
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) to[c] = get(from[c]);
  }
}

template <typename T>
void store_rows(const float* from, int64_t from_stride, T* to, int64_t to_stride, int64_t rows,
                int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, from += from_stride, to += to_stride) {
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) put(to[c], from[c]);
  }
}

template <typename T>
void rotate(const T* from, T* to, const float* cos, const float* sin, int64_t heads,
            int64_t head_stride, int64_t width, float sign, bool interleaved) {
  const int64_t half = width / 2;
  for (int64_t h = 0; h < heads; ++h, from += head_stride, to += head_stride) {
    for (int64_t j = 0; j < half; ++j) {
      const int64_t a = interleaved ? 2 * j : j;
      const int64_t b = interleaved ? 2 * j + 1 : j + half;
      const float x = get(from[a]), y = get(from[b]);
      const float c = cos[j], s = sign * sin[j];
      put(to[a], x * c - y * s);
      put(to[b], y * c + x * s);
    }
  }
}

double sum_of_squares(const float* x, int64_t count) {
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += 1024) {
    const int64_t end = std::min(count, begin + 1024);
    double part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t i = begin; i < end; ++i) part += static_cast<double>(x[i]) * x[i];
    total += part;
  }
  return total;
}

namespace {

template <typename T>
void fill(ElementKernels<T>& table) {
  table.rms_norm_forward = rms_norm_forward<T>;
  table.rms_norm_backward = rms_norm_backward<T>;
  table.sum_rows = sum_rows<T>;
  table.gather_rows = gather_rows<T>;
  table.load_rows = load_rows<T>;
  table.store_rows = store_rows<T>;
  table.rotate = rotate<T>;
}

}  // namespace

void add_row_kernels(KernelTable& table) {
  fill(table.of_float);
  fill(table.of_bfloat);
  table.sum_of_squares = sum_of_squares;
}

}  // namespace sutor::ops::SUTOR_KERNEL_LEVEL
