// Launchers of csrc/ops/rms_norm.h.
#pragma once

#include "csrc/ops/cuda/kernels/stream.h"

namespace sutor::ops::cuda {

template <typename T>
void launch_rms_norm(const T* x, const T* weight, T* y, float* rstd, int64_t rows, int64_t cols,
                     float eps, bool round_before_weight, cudaStream_t stream);
template <typename T>
void launch_rms_norm_gradient(const T* dy, const T* x, const T* weight, const float* rstd, T* dx,
                              int64_t rows, int64_t cols, cudaStream_t stream);

}  // namespace sutor::ops::cuda
