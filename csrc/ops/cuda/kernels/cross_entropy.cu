#include "csrc/ops/cuda/kernels/cross_entropy.h"

#include "csrc/ops/cuda/kernels/row_block.cuh"
#include "csrc/ops/cuda/rows/cross_entropy_row.h"

namespace sutor::ops::cuda {
namespace {

__global__ void cross_entropy_kernel(float* logits, const int64_t* target, float scale, float* loss,
                                     uint8_t* correct, int64_t vocab) {
  __shared__ double shared[CudaBlock::kMostWarps];
  const int64_t row = blockIdx.x;
  cross_entropy_row(CudaBlock{shared}, logits + row * vocab, target[row], scale, loss + row,
                    correct + row, vocab);
}

}  // namespace

void launch_cross_entropy(float* logits, const int64_t* target, float scale, float* loss,
                          uint8_t* correct, int64_t rows, int64_t vocab, cudaStream_t stream) {
  if (rows == 0) return;
  cross_entropy_kernel<<<rows, threads_for(vocab, 1024), 0, stream>>>(logits, target, scale, loss,
                                                                      correct, vocab);
}

}  // namespace sutor::ops::cuda
