// Causal attention within runs of rows (attention_runs.h). Softmax and sums in fp32.
#pragma once

#include "csrc/ops/attention_runs.h"
#include "csrc/ops/backend.h"

namespace sutor::ops {

// Tensors of the model's dtype, fp32 or bf16, the last axis of each contiguous.
struct AttentionInputs {
  at::Tensor q;         // [T, heads, dq]
  at::Tensor k;         // [rows, kv_heads, dk]; heads is a multiple of kv_heads
  at::Tensor k_shared;  // [rows, ds], appended to the key of every head, dk + ds = dq; or undefined
  at::Tensor v;         // [rows, kv_heads, dv]
  // fp32 [heads]: the logit of a key without a value, which every query of the head attends to, so
  // that its weights add up to less than one; undefined: none.
  at::Tensor sinks;
  double scale = 1;            // of the scores
  int64_t sliding_window = 0;  // a query attends to its last so many keys; 0: to all
};

struct Attended {
  at::Tensor out;  // [T, heads, dv] in q's dtype
  at::Tensor lse;  // fp32 [heads, T]: log of each row's sum, sinks included
};

struct AttentionGradients {
  at::Tensor q, k, k_shared, v;  // shaped as the inputs; keys that no query sees have 0
};

namespace cpu {
Attended attention(const AttentionInputs& in, const AttentionRuns& runs, bool keep);
AttentionGradients attention_gradients(const AttentionInputs& in, const AttentionRuns& runs,
                                       const Attended& forward, const at::Tensor& d_out);
}  // namespace cpu
namespace cuda {
Attended attention(const AttentionInputs& in, const AttentionRuns& runs, bool keep);
AttentionGradients attention_gradients(const AttentionInputs& in, const AttentionRuns& runs,
                                       const Attended& forward, const at::Tensor& d_out);
}  // namespace cuda

// keep: attention_gradients() will follow; else lse may be undefined.
inline Attended attention(const AttentionInputs& in, const AttentionRuns& runs, bool keep) {
  const bool on_cuda =
      is_on_cuda({&in.q, &in.k, &in.k_shared, &in.v, &in.sinks, &runs.query_offsets});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::attention(in, runs, keep);
  }
  return cpu::attention(in, runs, keep);
}

// d_out [T, heads, dv], contiguous. The gradient of the sinks is sink_gradient().
inline AttentionGradients attention_gradients(const AttentionInputs& in, const AttentionRuns& runs,
                                              const Attended& forward, const at::Tensor& d_out) {
  const bool on_cuda = is_on_cuda({&in.q, &in.k, &in.k_shared, &in.v, &in.sinks, &forward.out,
                                   &forward.lse, &d_out, &runs.query_offsets});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::attention_gradients(in, runs, forward, d_out);
  }
  return cpu::attention_gradients(in, runs, forward, d_out);
}

// [rows, kv_heads, dq]: k with the shared part after that of every head. Of any device.
at::Tensor whole_keys(const AttentionInputs& in);

// fp32 [heads]: a sink has a weight in every row, and no value. Of any device.
at::Tensor sink_gradient(const at::Tensor& sinks, const Attended& forward, const at::Tensor& d_out);

}  // namespace sutor::ops
