#include "csrc/ops/cuda/kernels/sum_rows.h"

#include "csrc/ops/cuda/kernels/row_block.cuh"
#include "csrc/ops/cuda/rows/sum_row.h"

namespace sutor::ops::cuda {
namespace {

template <typename T>
__global__ void sum_rows_kernel(const T* rows, const int64_t* position, T* y, int64_t k,
                                int64_t cols) {
  const int64_t token = blockIdx.x;
  sum_of_rows(CudaBlock{nullptr}, rows, position + token * k, k, y + token * cols, cols);
}

}  // namespace

template <typename T>
void launch_sum_rows(const T* rows, const int64_t* position, T* y, int64_t tokens, int64_t k,
                     int64_t cols, cudaStream_t stream) {
  if (tokens == 0) return;
  sum_rows_kernel<<<tokens, threads_for(cols), 0, stream>>>(rows, position, y, k, cols);
}

template void launch_sum_rows(const float*, const int64_t*, float*, int64_t, int64_t, int64_t,
                              cudaStream_t);
template void launch_sum_rows(const Bf16*, const int64_t*, Bf16*, int64_t, int64_t, int64_t,
                              cudaStream_t);

}  // namespace sutor::ops::cuda
