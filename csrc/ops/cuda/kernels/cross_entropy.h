// Launcher of cross_entropy_() of csrc/ops/cross_entropy.h.
#pragma once

#include "csrc/ops/cuda/kernels/stream.h"

namespace sutor::ops::cuda {

void launch_cross_entropy(float* logits, const int64_t* target, float scale, float* loss,
                          uint8_t* correct, int64_t rows, int64_t vocab, cudaStream_t stream);

}  // namespace sutor::ops::cuda
