#include "csrc/ops/adamw_bf16.h"

#include "csrc/ops/cuda/kernels/adamw_bf16.h"
#include "csrc/ops/cuda/tensors.h"

namespace sutor::ops::cuda {

void adamw_bf16_(std::span<const AdamWBf16Run> runs, const at::Tensor& weight,
                 const at::Tensor& exp_avg, const at::Tensor& exp_avg_sq, const at::Tensor& grad) {
  on_stream([&](cudaStream_t stream) {
    for (const AdamWBf16Run& run : runs) {
      const ElementIndex index{run.row_begin, run.col_begin, run.columns, run.row_elements};
      launch_adamw_bf16(run.step, index, data<Bf16>(weight) + run.offset,
                        data<Bf16>(exp_avg) + run.offset, data<Bf16>(exp_avg_sq) + run.offset,
                        data<float>(grad) + run.offset, run.count, stream);
    }
  });
}

}  // namespace sutor::ops::cuda
