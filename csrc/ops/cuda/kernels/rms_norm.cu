#include "csrc/ops/cuda/kernels/rms_norm.h"

#include "csrc/ops/cuda/kernels/row_block.cuh"
#include "csrc/ops/cuda/rows/norm_row.h"

namespace sutor::ops::cuda {
namespace {

template <typename T>
__global__ void rms_norm_kernel(const T* x, const T* weight, T* y, float* rstd, int64_t cols,
                                float eps, bool round_before_weight) {
  __shared__ double shared[CudaBlock::kMostWarps];
  const int64_t row = blockIdx.x;
  rms_norm_row(CudaBlock{shared}, x + row * cols, weight, y + row * cols, rstd + row, cols, eps,
               round_before_weight);
}

template <typename T>
__global__ void rms_norm_gradient_kernel(const T* dy, const T* x, const T* weight,
                                         const float* rstd, T* dx, int64_t cols) {
  __shared__ double shared[CudaBlock::kMostWarps];
  const int64_t row = blockIdx.x;
  rms_norm_gradient_row(CudaBlock{shared}, dy + row * cols, x + row * cols, weight, rstd[row],
                        dx + row * cols, cols);
}

}  // namespace

template <typename T>
void launch_rms_norm(const T* x, const T* weight, T* y, float* rstd, int64_t rows, int64_t cols,
                     float eps, bool round_before_weight, cudaStream_t stream) {
  if (rows == 0) return;
  rms_norm_kernel<<<rows, threads_for(cols), 0, stream>>>(x, weight, y, rstd, cols, eps,
                                                          round_before_weight);
}

template <typename T>
void launch_rms_norm_gradient(const T* dy, const T* x, const T* weight, const float* rstd, T* dx,
                              int64_t rows, int64_t cols, cudaStream_t stream) {
  if (rows == 0) return;
  rms_norm_gradient_kernel<<<rows, threads_for(cols), 0, stream>>>(dy, x, weight, rstd, dx, cols);
}

template void launch_rms_norm(const float*, const float*, float*, float*, int64_t, int64_t, float,
                              bool, cudaStream_t);
template void launch_rms_norm(const Bf16*, const Bf16*, Bf16*, float*, int64_t, int64_t, float,
                              bool, cudaStream_t);
template void launch_rms_norm_gradient(const float*, const float*, const float*, const float*,
                                       float*, int64_t, int64_t, cudaStream_t);
template void launch_rms_norm_gradient(const Bf16*, const Bf16*, const Bf16*, const float*, Bf16*,
                                       int64_t, int64_t, cudaStream_t);

}  // namespace sutor::ops::cuda
