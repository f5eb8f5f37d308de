// Launcher of csrc/ops/exact_sum.h.
#pragma once

#include "csrc/ops/cuda/kernels/stream.h"

namespace sutor::ops::cuda {

// How many partial sums launch_sum() writes for x [count].
int64_t num_partial_sums(int64_t count);
// total = the sum of x or of its squares; partial [num_partial_sums(count)]. The order depends on
// `count` alone.
void launch_sum(const float* x, int64_t count, bool squares, double* partial, double* total,
                cudaStream_t stream);

}  // namespace sutor::ops::cuda
