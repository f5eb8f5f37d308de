#include "csrc/ops/cuda/kernels/expert_bias.h"

#include "csrc/ops/cuda/kernels/row_block.cuh"
#include "csrc/ops/cuda/rows/group_tiles.h"
#include "csrc/ops/cuda/rows/sum_row.h"

namespace sutor::ops::cuda {
namespace {

template <typename T>
__global__ void add_bias_kernel(Groups groups, Stacks<T> bias, const float* weights, T* y) {
  const int64_t row = blockIdx.x, cols = bias.stride;
  if (row >= groups.offsets[groups.groups]) return;
  const T* of_group = bias.of(group_of_row(groups.offsets, groups.groups, row));
  add_bias_row(CudaBlock{nullptr}, of_group, weights == nullptr ? 1.0f : weights[row],
               y + row * cols, cols);
}

template <typename T>
__global__ void add_bias_dots_kernel(Groups groups, Stacks<T> bias, const T* x, float* sums) {
  __shared__ double shared[CudaBlock::kMostWarps];
  const int64_t row = blockIdx.x, cols = bias.stride;
  if (row >= groups.offsets[groups.groups]) return;
  const T* of_group = bias.of(group_of_row(groups.offsets, groups.groups, row));
  add_bias_dot(CudaBlock{shared}, x + row * cols, of_group, sums + row, cols);
}

constexpr int kColumns = 32, kRowsAtATime = 8;

// A block has 32 columns of a group; each of its eight warps takes every eighth row.
template <typename T>
__global__ void add_group_sums_kernel(Groups groups, const T* x, const float* weights, int64_t cols,
                                      float* sums) {
  __shared__ float of_warps[kRowsAtATime][kColumns];
  const int64_t column = int64_t{blockIdx.x} * kColumns + threadIdx.x, group = blockIdx.y;
  float sum = 0;
  if (column < cols) {
    const int64_t end = groups.offsets[group + 1];
    for (int64_t r = groups.offsets[group] + threadIdx.y; r < end; r += kRowsAtATime) {
      sum += (weights == nullptr ? 1.0f : weights[r]) * get(x[r * cols + column]);
    }
  }
  of_warps[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= cols) return;
  for (int warp = 1; warp < kRowsAtATime; ++warp) sum += of_warps[warp][threadIdx.x];
  sums[group * cols + column] += sum;
}

}  // namespace

template <typename T>
void launch_add_bias(const Groups& groups, const Stacks<T>& bias, const float* weights, T* y,
                     cudaStream_t stream) {
  if (groups.rows == 0 || groups.groups == 0) return;
  add_bias_kernel<<<groups.rows, threads_for(bias.stride), 0, stream>>>(groups, bias, weights, y);
}

template <typename T>
void launch_add_bias_dots(const Groups& groups, const Stacks<T>& bias, const T* x, float* sums,
                          cudaStream_t stream) {
  if (groups.rows == 0 || groups.groups == 0) return;
  add_bias_dots_kernel<<<groups.rows, threads_for(bias.stride), 0, stream>>>(groups, bias, x, sums);
}

template <typename T>
void launch_add_group_sums(const Groups& groups, const T* x, const float* weights, int64_t cols,
                           float* sums, cudaStream_t stream) {
  if (groups.rows == 0 || groups.groups == 0) return;
  const dim3 blocks(blocks_for(cols, kColumns), static_cast<unsigned>(groups.groups));
  add_group_sums_kernel<<<blocks, dim3(kColumns, kRowsAtATime), 0, stream>>>(groups, x, weights,
                                                                             cols, sums);
}

#define SUTOR_INSTANTIATE(T)                                                                      \
  template void launch_add_bias(const Groups&, const Stacks<T>&, const float*, T*, cudaStream_t); \
  template void launch_add_bias_dots(const Groups&, const Stacks<T>&, const T*, float*,           \
                                     cudaStream_t);                                               \
  template void launch_add_group_sums(const Groups&, const T*, const float*, int64_t, float*,     \
                                      cudaStream_t)
SUTOR_INSTANTIATE(float);
SUTOR_INSTANTIATE(Bf16);

}  // namespace sutor::ops::cuda
