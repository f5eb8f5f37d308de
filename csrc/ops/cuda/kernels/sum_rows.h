// Launcher of csrc/ops/sum_rows.h.
#pragma once

#include "csrc/ops/cuda/kernels/stream.h"

namespace sutor::ops::cuda {

// position [tokens, k], y [tokens, cols].
template <typename T>
void launch_sum_rows(const T* rows, const int64_t* position, T* y, int64_t tokens, int64_t k,
                     int64_t cols, cudaStream_t stream);

}  // namespace sutor::ops::cuda
