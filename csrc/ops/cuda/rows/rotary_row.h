// Rotary position embedding of the heads of one row (csrc/ops/rotary.h).
#pragma once

#include "csrc/ops/cuda/rows/number.h"

namespace sutor::ops::cuda {

struct RotaryShape {
  int heads = 0, head_dim = 0;
  int offset = 0, half = 0;  // 2 * half dimensions of each head turn, from `offset` on
  bool interleaved = false, back = false;
};

// x, y [heads, head_dim]; cos, sin [half].
template <typename Block, typename T>
SUTOR_HOST_DEVICE void rotary_row(const Block& block, const RotaryShape& shape, const T* x,
                                  const float* cos, const float* sin, T* y) {
  const int width = 2 * shape.half, still = shape.head_dim - width;
  block.each(int64_t{shape.heads} * shape.half, [=](int64_t i) {
    const int head = static_cast<int>(i) / shape.half, j = static_cast<int>(i) % shape.half;
    const int first = head * shape.head_dim + shape.offset;
    const int a = first + (shape.interleaved ? 2 * j : j);
    const int b = first + (shape.interleaved ? 2 * j + 1 : j + shape.half);
    const float c = cos[j], s = shape.back ? -sin[j] : sin[j];
    const float at_a = get(x[a]), at_b = get(x[b]);
    put(y[a], at_a * c - at_b * s);
    put(y[b], at_b * c + at_a * s);
  });
  if (still == 0) return;
  block.each(int64_t{shape.heads} * still, [=](int64_t i) {
    const int head = static_cast<int>(i) / still, j = static_cast<int>(i) % still;
    const int at = head * shape.head_dim + (j < shape.offset ? j : j + width);
    y[at] = x[at];
  });
}

}  // namespace sutor::ops::cuda
