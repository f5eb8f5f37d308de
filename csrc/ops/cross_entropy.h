// The products of the language-model head, and the cross entropy of its logits.
#pragma once

#include <algorithm>

#include "csrc/ops/backend.h"
#include "csrc/ops/device/planned_device.h"

namespace sutor::ops {

namespace cpu {
at::Tensor head_logits(const at::Tensor& h, const at::Tensor& weight);
at::Tensor head_input_gradient(const at::Tensor& d_logits, const at::Tensor& weight);
void cross_entropy_(const at::Tensor& logits, const at::Tensor& target, double scale,
                    const at::Tensor& loss, const at::Tensor& correct);
}  // namespace cpu
namespace cuda {
at::Tensor head_logits(const at::Tensor& h, const at::Tensor& weight);
at::Tensor head_input_gradient(const at::Tensor& d_logits, const at::Tensor& weight);
void cross_entropy_(const at::Tensor& logits, const at::Tensor& target, double scale,
                    const at::Tensor& loss, const at::Tensor& correct);
}  // namespace cuda

// How many rows to give the operators below at a time, where `ranks` share a vocabulary: so many
// that a CPU's cache holds their logits (32 MiB), and on a GPU enough to fill it. The same on all
// these ranks.
inline int64_t head_rows_at_once(const at::Tensor& hidden, int64_t vocab, int64_t ranks) {
  constexpr int64_t kMost = 4096;
  if (hidden.is_cuda() || (hidden.is_meta() && is_planned_for_gpu())) return kMost;
  return std::clamp<int64_t>((int64_t{1} << 23) * ranks / vocab, 16, kMost);
}

// h [n, H] times weight [V, H] transposed, both fp32 or both bf16: [n, V] in fp32.
inline at::Tensor head_logits(const at::Tensor& h, const at::Tensor& weight) {
  const bool on_cuda = is_on_cuda({&h, &weight});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::head_logits(h, weight);
  }
  return cpu::head_logits(h, weight);
}

// d_logits [n, V] times weight [V, H], both of one dtype: [n, H] in it.
inline at::Tensor head_input_gradient(const at::Tensor& d_logits, const at::Tensor& weight) {
  const bool on_cuda = is_on_cuda({&d_logits, &weight});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::head_input_gradient(d_logits, weight);
  }
  return cpu::head_input_gradient(d_logits, weight);
}

// Cross entropy of fp32 logits [n, V], contiguous, with targets int64 [n], in place: the logits
// become scale * (softmax - onehot). loss fp32 [n] receives the nats of each row, correct uint8 [n]
// whether no logit is larger than the target's.
inline void cross_entropy_(const at::Tensor& logits, const at::Tensor& target, double scale,
                           const at::Tensor& loss, const at::Tensor& correct) {
  const bool on_cuda = is_on_cuda({&logits, &target, &loss, &correct});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::cross_entropy_(logits, target, scale, loss, correct);
  }
  cpu::cross_entropy_(logits, target, scale, loss, correct);
}

}  // namespace sutor::ops
