// Launchers of the products of routed experts: of rows in groups, each with a matrix of its own.
// Sums are fp32 in an order that depends on the shapes alone. Any sizes, empty groups and single
// rows are fine.
#pragma once

#include "csrc/ops/cuda/kernels/groups.h"
#include "csrc/ops/cuda/kernels/stream.h"

namespace sutor::ops::cuda {

// Of the matrices [out, in] of the groups.
struct MatrixShape {
  int64_t out = 0, in = 0;
};

// y = x w^T. x [rows, in], y [rows, out]; rows outside the groups are not written.
void launch_grouped_mm_transposed(const Groups& groups, const MatrixShape& shape, const float* x,
                                  const Stacks<float>& w, float* y, cudaStream_t stream);
void launch_grouped_mm_transposed(const Groups& groups, const MatrixShape& shape, const Bf16* x,
                                  const Stacks<Bf16>& w, Bf16* y, cudaStream_t stream);
// dx = dy w. dy [rows, out], dx [rows, in].
void launch_grouped_mm(const Groups& groups, const MatrixShape& shape, const float* dy,
                       const Stacks<float>& w, float* dx, cudaStream_t stream);
void launch_grouped_mm(const Groups& groups, const MatrixShape& shape, const Bf16* dy,
                       const Stacks<Bf16>& w, Bf16* dx, cudaStream_t stream);
// grad[g] += dy^T x over the rows of group g. grad [groups, out, in].
void launch_grouped_add_products(const Groups& groups, const MatrixShape& shape, const float* dy,
                                 const float* x, float* grad, cudaStream_t stream);
void launch_grouped_add_products(const Groups& groups, const MatrixShape& shape, const Bf16* dy,
                                 const Bf16* x, float* grad, cudaStream_t stream);

}  // namespace sutor::ops::cuda
