// The sum of each token's rows.
#pragma once

#include "csrc/ops/backend.h"

namespace sutor::ops {

namespace cpu {
at::Tensor sum_rows(const at::Tensor& rows, const at::Tensor& position, int64_t num_tokens);
}
namespace cuda {
at::Tensor sum_rows(const at::Tensor& rows, const at::Tensor& position, int64_t num_tokens);
}

// y[t] = sum over k of rows[position[t * K + k]], added in the order of k in fp32 and rounded once.
// rows [R, H], fp32 or bf16, contiguous; position int64 [T * K]. Returns [T, H].
inline at::Tensor sum_rows(const at::Tensor& rows, const at::Tensor& position, int64_t num_tokens) {
  const bool on_cuda = is_on_cuda({&rows, &position});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::sum_rows(rows, position, num_tokens);
  }
  return cpu::sum_rows(rows, position, num_tokens);
}

}  // namespace sutor::ops
