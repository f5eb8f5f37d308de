// Causal attention within each document of a packed batch; documents do not see each other.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace sutor {

// q [T, heads, dq]; k [T, kv_heads, dk]; k_shared [T, ds] or undefined: appended to the key of
// every head, dk + ds = dq; v [T, kv_heads, dv]. The last axis of each is contiguous. heads is a
// multiple of kv_heads. Softmax and sums in fp32. Returns [T, heads, dv] in q's dtype;
// differentiable. Keeps q, k, v, the output and one number a row and head for the backward pass;
// scores are recomputed by blocks.
at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& k_shared,
                            const at::Tensor& v, const std::vector<int64_t>& doc_offsets,
                            double scale);

}  // namespace sutor
