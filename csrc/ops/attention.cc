#include "csrc/ops/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>

namespace sutor::ops {

at::Tensor whole_keys(const AttentionInputs& in) {
  if (!in.k_shared.defined()) return in.k;
  const at::Tensor shared =
      in.k_shared.unsqueeze(1).expand({-1, in.k.size(1), in.k_shared.size(1)});
  return at::cat({in.k, shared}, 2);
}

at::Tensor sink_gradient(const at::Tensor& sinks, const Attended& forward,
                         const at::Tensor& d_out) {
  const at::Tensor delta =
      (forward.out.to(at::kFloat) * d_out.to(at::kFloat)).sum(-1);       // [T, heads]
  const at::Tensor weights = at::exp(sinks.unsqueeze(1) - forward.lse);  // [heads, T]
  return -(weights * delta.t()).sum(1);
}

}  // namespace sutor::ops
