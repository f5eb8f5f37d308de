// The step of AdamW on bf16 weights and moments with stochastic rounding, for the runs of a chunk.
// Which random bits an element takes: csrc/ops/adamw_bf16_step.h.
#pragma once

#include <span>

#include "csrc/ops/adamw_bf16_step.h"
#include "csrc/ops/backend.h"

namespace sutor::ops {

// Elements of one tensor that follow each other in the chunk: rows of it, or columns of rows.
struct AdamWBf16Run {
  AdamWBf16Step step;
  int64_t offset = 0;  // of the first element in the chunk
  int64_t count = 0;
  // The element at offset + i has the index (row_begin + i / columns) * row_elements + col_begin +
  // i % columns in its tensor.
  int64_t row_begin = 0, col_begin = 0, columns = 1, row_elements = 1;
};

namespace cpu {
void adamw_bf16_(std::span<const AdamWBf16Run> runs, const at::Tensor& weight,
                 const at::Tensor& exp_avg, const at::Tensor& exp_avg_sq, const at::Tensor& grad);
}
namespace cuda {
void adamw_bf16_(std::span<const AdamWBf16Run> runs, const at::Tensor& weight,
                 const at::Tensor& exp_avg, const at::Tensor& exp_avg_sq, const at::Tensor& grad);
}

// weight, exp_avg, exp_avg_sq bf16 [n], grad fp32 [n]; contiguous. The same bits on every device.
inline void adamw_bf16_(std::span<const AdamWBf16Run> runs, const at::Tensor& weight,
                        const at::Tensor& exp_avg, const at::Tensor& exp_avg_sq,
                        const at::Tensor& grad) {
  const bool on_cuda = is_on_cuda({&weight, &exp_avg, &exp_avg_sq, &grad});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::adamw_bf16_(runs, weight, exp_avg, exp_avg_sq, grad);
  }
  cpu::adamw_bf16_(runs, weight, exp_avg, exp_avg_sq, grad);
}

}  // namespace sutor::ops
