// Causal attention within each document of a packed batch; documents do not see each other.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "csrc/ops/key_rows.h"

namespace sutor {

struct AttentionOptions {
  double scale = 1;  // of the scores
  // A query attends to the last `sliding_window` keys up to its own; 0: to all of them.
  int64_t sliding_window = 0;
  // [heads]: the logit of a key without a value, which every query of the head attends to, so that
  // its weights add up to less than one; undefined: none.
  at::Tensor sinks{};
};

// q [T, heads, dq]; k [T, kv_heads, dk]; k_shared [T, ds] or undefined: appended to the key of
// every head, dk + ds = dq; v [T, kv_heads, dv]. The last axis of each is contiguous. heads is a
// multiple of kv_heads. Softmax and sums in fp32. Returns [T, heads, dv] in q's dtype;
// differentiable. Saves q, k, v, the output and one number per row and head for the backward pass,
// which recomputes the scores block by block.
at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& k_shared,
                            const at::Tensor& v, const std::vector<int64_t>& doc_offsets,
                            const AttentionOptions& options);

// The same where runs of queries, given by [runs + 1] offsets, attend to other rows: `keys` says
// which rows of k, k_shared and v are the keys of a run, and query r of a run with n queries
// attends to all but the last n - 1 - r of them, or to the last `sliding_window` of those.
// Neighbouring runs may share keys; those of other runs do not overlap. Differentiable unless
// gradients are off.
at::Tensor packed_attention_over(const at::Tensor& q, const at::Tensor& k,
                                 const at::Tensor& k_shared, const at::Tensor& v,
                                 const std::vector<int64_t>& doc_offsets, const KeyRows& keys,
                                 const AttentionOptions& options);

}  // namespace sutor
