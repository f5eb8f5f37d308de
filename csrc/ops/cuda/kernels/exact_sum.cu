#include "csrc/ops/cuda/kernels/exact_sum.h"

#include "csrc/ops/cuda/kernels/row_block.cuh"

namespace sutor::ops::cuda {
namespace {

constexpr int64_t kMostParts = 1024, kPartElements = 4096;

__global__ void partial_sums_kernel(const float* x, int64_t count, bool squares, double* partial) {
  __shared__ double shared[CudaBlock::kMostWarps];
  // Parts differ by one element at most.
  const int64_t begin = count * blockIdx.x / gridDim.x;
  const int64_t end = count * (blockIdx.x + 1) / gridDim.x;
  const CudaBlock block{shared};
  const double sum = block.sum<double>(end - begin, [=](int64_t i) {
    const double value = x[begin + i];
    return squares ? value * value : value;
  });
  block.once([=] { partial[blockIdx.x] = sum; });
}

__global__ void total_kernel(const double* partial, int64_t parts, double* total) {
  __shared__ double shared[CudaBlock::kMostWarps];
  const CudaBlock block{shared};
  const double sum = block.sum<double>(parts, [=](int64_t i) { return partial[i]; });
  block.once([=] { *total = sum; });
}

}  // namespace

int64_t num_partial_sums(int64_t count) {
  const int64_t parts = (count + kPartElements - 1) / kPartElements;
  return parts < 1 ? 1 : parts < kMostParts ? parts : kMostParts;
}

void launch_sum(const float* x, int64_t count, bool squares, double* partial, double* total,
                cudaStream_t stream) {
  const int64_t parts = num_partial_sums(count);
  partial_sums_kernel<<<parts, 256, 0, stream>>>(x, count, squares, partial);
  total_kernel<<<1, 256, 0, stream>>>(partial, parts, total);
}

}  // namespace sutor::ops::cuda
