// Launcher of csrc/ops/adamw_bf16.h, for one run of elements.
#pragma once

#include "csrc/ops/adamw_bf16_step.h"
#include "csrc/ops/cuda/kernels/stream.h"
#include "csrc/ops/cuda/rows/adamw_element.h"

namespace sutor::ops::cuda {

// The pointers are those of the run's first element.
void launch_adamw_bf16(const AdamWBf16Step& step, const ElementIndex& index, Bf16* weight,
                       Bf16* exp_avg, Bf16* exp_avg_sq, const float* grad, int64_t count,
                       cudaStream_t stream);

}  // namespace sutor::ops::cuda
