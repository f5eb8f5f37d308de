// Causal attention within each document of a packed batch; documents do not see each other.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "csrc/ops/key_rows.h"

namespace sutor {

struct AttentionOptions {
  double scale = 1;  // of the scores
  // A query sees the last so many of the keys up to its own; 0: all of them.
  int64_t sliding_window = 0;
  // [heads]: the logit of a key without a value that every query of the head sees, so that its
  // weights add up to less than one; undefined: none.
  at::Tensor sinks{};
};

// q [T, heads, dq]; k [T, kv_heads, dk]; k_shared [T, ds] or undefined: appended to the key of
// every head, dk + ds = dq; v [T, kv_heads, dv]. The last axis of each is contiguous. heads is a
// multiple of kv_heads. Softmax and sums in fp32. Returns [T, heads, dv] in q's dtype;
// differentiable. Keeps q, k, v, the output and one number a row and head for the backward pass;
// scores are recomputed by blocks.
at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& k_shared,
                            const at::Tensor& v, const std::vector<int64_t>& doc_offsets,
                            const AttentionOptions& options);

// The same where runs of queries, [runs + 1] offsets, see other rows: the keys of a run stand in k,
// k_shared and v as `keys` says, and query r of a run with n queries sees all but the last n - 1 -
// r of them, or the window's last of those. Neighbouring runs may share keys; the keys of others do
// not overlap theirs. Differentiable unless gradients are off.
at::Tensor packed_attention_over(const at::Tensor& q, const at::Tensor& k,
                                 const at::Tensor& k_shared, const at::Tensor& v,
                                 const std::vector<int64_t>& doc_offsets, const KeyRows& keys,
                                 const AttentionOptions& options);

}  // namespace sutor
