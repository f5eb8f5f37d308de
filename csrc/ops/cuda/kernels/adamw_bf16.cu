// Compiled with -fmad=false: its bits decide roundings.
#include "csrc/ops/cuda/kernels/adamw_bf16.h"

#include "csrc/ops/cuda/kernels/row_block.cuh"

namespace sutor::ops::cuda {
namespace {

constexpr int64_t kElements = 1024;  // of a block

__global__ void adamw_bf16_kernel(AdamWBf16Step step, ElementIndex index, Bf16* weight,
                                  Bf16* exp_avg, Bf16* exp_avg_sq, const float* grad,
                                  int64_t count) {
  const int64_t first = blockIdx.x * kElements, left = count - first;
  const CudaBlock block{nullptr};
  block.each(left < kElements ? left : kElements, [=](int64_t i) {
    const int64_t at = first + i;
    adamw_bf16_element(step, index.of(at), weight[at], exp_avg[at], exp_avg_sq[at], grad[at]);
  });
}

}  // namespace

void launch_adamw_bf16(const AdamWBf16Step& step, const ElementIndex& index, Bf16* weight,
                       Bf16* exp_avg, Bf16* exp_avg_sq, const float* grad, int64_t count,
                       cudaStream_t stream) {
  if (count == 0) return;
  adamw_bf16_kernel<<<blocks_for(count, kElements), 256, 0, stream>>>(step, index, weight, exp_avg,
                                                                      exp_avg_sq, grad, count);
}

}  // namespace sutor::ops::cuda
