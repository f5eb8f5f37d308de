#include "csrc/ops/cross_entropy.h"

#include "csrc/ops/cuda/kernels/cross_entropy.h"
#include "csrc/ops/cuda/tensors.h"

namespace sutor::ops::cuda {

at::Tensor head_logits(const at::Tensor& h, const at::Tensor& weight) {
  if (h.scalar_type() == at::kFloat) return at::mm(h, weight.t());
  return at::mm(h, weight.t(), at::kFloat);  // the sums, which bf16 would round
}

at::Tensor head_input_gradient(const at::Tensor& d_logits, const at::Tensor& weight) {
  return at::mm(d_logits, weight);
}

void cross_entropy_(const at::Tensor& logits, const at::Tensor& target, double scale,
                    const at::Tensor& loss, const at::Tensor& correct) {
  on_stream([&](cudaStream_t stream) {
    launch_cross_entropy(data<float>(logits), data<int64_t>(target), static_cast<float>(scale),
                         data<float>(loss), data<uint8_t>(correct), logits.size(0), logits.size(1),
                         stream);
  });
}

}  // namespace sutor::ops::cuda
