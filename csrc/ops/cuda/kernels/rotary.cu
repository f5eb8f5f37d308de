#include "csrc/ops/cuda/kernels/rotary.h"

#include "csrc/ops/cuda/kernels/row_block.cuh"

namespace sutor::ops::cuda {
namespace {

template <typename T>
__global__ void rotary_kernel(RotaryShape shape, const T* x, const float* cos, const float* sin,
                              T* y) {
  const int64_t row = blockIdx.x, elements = int64_t{shape.heads} * shape.head_dim;
  rotary_row(CudaBlock{nullptr}, shape, x + row * elements, cos + row * shape.half,
             sin + row * shape.half, y + row * elements);
}

}  // namespace

template <typename T>
void launch_rotary(const RotaryShape& shape, const T* x, const float* cos, const float* sin, T* y,
                   int64_t rows, cudaStream_t stream) {
  const int64_t elements = int64_t{shape.heads} * shape.head_dim;
  if (rows == 0 || elements == 0) return;
  rotary_kernel<<<rows, threads_for(elements / 2), 0, stream>>>(shape, x, cos, sin, y);
}

template void launch_rotary(const RotaryShape&, const float*, const float*, const float*, float*,
                            int64_t, cudaStream_t);
template void launch_rotary(const RotaryShape&, const Bf16*, const float*, const float*, Bf16*,
                            int64_t, cudaStream_t);

}  // namespace sutor::ops::cuda
