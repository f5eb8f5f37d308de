// Launcher of csrc/ops/rotary.h.
#pragma once

#include "csrc/ops/cuda/kernels/stream.h"
#include "csrc/ops/cuda/rows/rotary_row.h"

namespace sutor::ops::cuda {

// x, y [rows, heads, head_dim]; cos, sin [rows, half].
template <typename T>
void launch_rotary(const RotaryShape& shape, const T* x, const float* cos, const float* sin, T* y,
                   int64_t rows, cudaStream_t stream);

}  // namespace sutor::ops::cuda
