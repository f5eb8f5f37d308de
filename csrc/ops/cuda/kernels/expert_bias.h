// Launchers of the biases of routed experts.
#pragma once

#include "csrc/ops/cuda/kernels/groups.h"
#include "csrc/ops/cuda/kernels/stream.h"

namespace sutor::ops::cuda {

// y[r] += weights[r] * the bias of r's group, rounded once; weights may be null (1).
template <typename T>
void launch_add_bias(const Groups& groups, const Stacks<T>& bias, const float* weights, T* y,
                     cudaStream_t stream);
// sums[r] += <x[r], the bias of r's group>
template <typename T>
void launch_add_bias_dots(const Groups& groups, const Stacks<T>& bias, const T* x, float* sums,
                          cudaStream_t stream);
// sums[g] += the sum of weights[r] * x[r] over the rows of group g, fp32 [groups, cols]; weights
// may be null (1).
template <typename T>
void launch_add_group_sums(const Groups& groups, const T* x, const float* weights, int64_t cols,
                           float* sums, cudaStream_t stream);

}  // namespace sutor::ops::cuda
