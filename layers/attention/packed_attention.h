// Causal attention within each document of a packed batch, with its gradient; documents do not see
// each other.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "csrc/ops/attention_runs.h"

namespace sutor {

struct AttentionOptions {
  double scale = 1;  // of the scores
  // A query attends to the last `sliding_window` keys up to its own; 0: to all of them.
  int64_t sliding_window = 0;
  // [heads]: the logit of a key without a value, which every query of the head attends to, so that
  // its weights add up to less than one; undefined: none.
  at::Tensor sinks{};
};

// q [T, heads, dq]; k [rows, kv_heads, dk]; k_shared [rows, ds] or undefined: appended to the key
// of every head, dk + ds = dq; v [rows, kv_heads, dv]. The last axis of each is contiguous. heads
// is a multiple of kv_heads. `runs` says which rows each query sees. Softmax and sums in fp32.
// Returns [T, heads, dv] in q's dtype; differentiable unless gradients are off. Saves q, k, v, the
// output and one number per row and head for the backward pass, which recomputes the scores.
at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& k_shared,
                            const at::Tensor& v,
                            const std::shared_ptr<const ops::AttentionRuns>& runs,
                            const AttentionOptions& options);

}  // namespace sutor
