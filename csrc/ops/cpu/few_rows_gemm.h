// Matrix products in which one operand is a weight and the other has few rows: what a routed expert
// computes. BLAS repacks the weight at every call, which for tens of rows costs as much as the
// product; here the weight is read as it lies, through the brgemm kernels of oneDNN that torch
// exports. On a CPU that they do not serve, torch's mm does the work. Serial: callers split the
// work over threads.
#pragma once

#include <ATen/core/Tensor.h>

namespace sutor::ops {

// y = x w^T. x [n, in], w [out, in], y [n, out]; last axes contiguous, all of one dtype (fp32 or
// bf16; sums are fp32), except that y may be fp32 where x and w are bf16.
void few_rows_mm_transposed(const at::Tensor& x, const at::Tensor& w, const at::Tensor& y);

// y = x w. x [n, out], w [out, in], y [n, in]; the same conditions.
void few_rows_mm(const at::Tensor& x, const at::Tensor& w, const at::Tensor& y);

}  // namespace sutor::ops
