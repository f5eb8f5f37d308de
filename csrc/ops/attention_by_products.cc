// Shapes: H heads, G kv heads, g = H / G heads of a group, n queries and s keys of a block.
#include "csrc/ops/attention_by_products.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>

namespace sutor::ops {
namespace {

constexpr int64_t kScores = int64_t{1} << 25;  // of all heads at a time: 128 MiB of fp32

// Some queries of a run, and the keys that any of them sees.
struct Block {
  int64_t row = 0, rows = 0;  // queries
  int64_t key = 0, keys = 0;  // rows of k and v
  int64_t own = 0;            // which of these keys is the first query's own
};

template <typename F>
void for_each_block(const AttentionInputs& in, const AttentionRuns& runs, const F& f) {
  for (size_t run = 0; run < runs.size(); ++run) {
    const int64_t first = runs.offsets[run], queries = runs.offsets[run + 1] - first;
    const int64_t before = runs.keys.counts[run] - queries;
    const int64_t scores_a_query = std::max<int64_t>(1, in.q.size(1) * runs.keys.counts[run]);
    const int64_t most = std::max<int64_t>(1, kScores / scores_a_query);
    for (int64_t at = 0; at < queries; at += most) {
      Block block;
      block.row = first + at;
      block.rows = std::min(most, queries - at);
      const int64_t own = before + at;
      const int64_t from =
          in.sliding_window > 0 ? std::max<int64_t>(0, own + 1 - in.sliding_window) : 0;
      block.key = runs.keys.begins[run] + from;
      block.keys = own + block.rows - from;
      block.own = own - from;
      f(block);
    }
  }
}

// Queries [n, H, d] of x as [G, g n, d] in fp32, and back.
at::Tensor by_group(const at::Tensor& x, const Block& block, int64_t kv_heads) {
  const int64_t group = x.size(1) / kv_heads;
  return x.narrow(0, block.row, block.rows)
      .to(at::kFloat)
      .reshape({block.rows, kv_heads, group, x.size(2)})
      .permute({1, 2, 0, 3})
      .reshape({kv_heads, group * block.rows, x.size(2)});
}
void store_by_group(const at::Tensor& from, const Block& block, const at::Tensor& to) {
  const int64_t kv_heads = from.size(0), width = from.size(2);
  to.narrow(0, block.row, block.rows)
      .copy_(from.view({kv_heads, -1, block.rows, width})
                 .permute({2, 0, 1, 3})
                 .reshape({block.rows, -1, width}));
}

// Keys or values [s, G, d] of x as [G, s, d] in fp32.
at::Tensor keys_of(const at::Tensor& x, const Block& block) {
  return x.narrow(0, block.key, block.keys).to(at::kFloat).transpose(0, 1);
}
void add_to_keys(const at::Tensor& from, const Block& block, const at::Tensor& to) {
  to.narrow(0, block.key, block.keys).add_(from.transpose(0, 1));
}

// Whether a query [n, 1] does not see a key [1, s].
at::Tensor hidden_keys(const AttentionInputs& in, const Block& block) {
  const auto options = in.q.options().dtype(at::kLong);
  const at::Tensor own = at::arange(block.rows, options).unsqueeze(1) + block.own;
  const at::Tensor key = at::arange(block.keys, options).unsqueeze(0);
  const at::Tensor hidden = key > own;
  return in.sliding_window > 0 ? hidden.logical_or(key <= own - in.sliding_window) : hidden;
}

// Scaled, and -infinity where a query does not see a key: [H, n, s].
at::Tensor scores_of(const AttentionInputs& in, const Block& block, const at::Tensor& q,
                     const at::Tensor& k) {
  const at::Tensor scores = at::bmm(q, k.transpose(1, 2)).mul_(in.scale);
  return scores.view({in.q.size(1), block.rows, block.keys})
      .masked_fill_(hidden_keys(in, block), -std::numeric_limits<double>::infinity());
}

}  // namespace

Attended attention_by_products(const AttentionInputs& in, const AttentionRuns& runs) {
  const int64_t tokens = in.q.size(0), heads = in.q.size(1), kv_heads = in.k.size(1);
  const at::Tensor all_keys = whole_keys(in);
  Attended result{at::empty({tokens, heads, in.v.size(2)}, in.q.options()),
                  at::empty({heads, tokens}, in.q.options().dtype(at::kFloat))};
  for_each_block(in, runs, [&](const Block& block) {
    at::Tensor p = scores_of(in, block, by_group(in.q, block, kv_heads), keys_of(all_keys, block));
    at::Tensor lse = p.logsumexp(-1);  // [H, n]
    if (in.sinks.defined()) lse = at::logaddexp(lse, in.sinks.unsqueeze(1));
    result.lse.narrow(1, block.row, block.rows).copy_(lse);
    p = p.sub_(lse.unsqueeze(2)).exp_().view({kv_heads, -1, block.keys});
    store_by_group(at::bmm(p, keys_of(in.v, block)), block, result.out);
  });
  return result;
}

AttentionGradients attention_gradients_by_products(const AttentionInputs& in,
                                                   const AttentionRuns& runs,
                                                   const Attended& forward,
                                                   const at::Tensor& d_out) {
  const int64_t kv_heads = in.k.size(1), dk = in.k.size(2);
  const auto dtype = in.q.scalar_type();
  const at::Tensor all_keys = whole_keys(in);
  AttentionGradients grads;
  grads.q = at::empty(in.q.sizes(), in.q.options());
  // In fp32, as runs may share keys.
  const at::Tensor d_keys = at::zeros(all_keys.sizes(), all_keys.options().dtype(at::kFloat));
  const at::Tensor d_values = at::zeros(in.v.sizes(), in.v.options().dtype(at::kFloat));
  for_each_block(in, runs, [&](const Block& block) {
    const at::Tensor q = by_group(in.q, block, kv_heads), k = keys_of(all_keys, block);
    const at::Tensor d_o = by_group(d_out, block, kv_heads);
    const at::Tensor lse = forward.lse.narrow(1, block.row, block.rows).unsqueeze(2);
    const at::Tensor p =
        scores_of(in, block, q, k).sub_(lse).exp_().view({kv_heads, -1, block.keys});
    add_to_keys(at::bmm(p.transpose(1, 2), d_o), block, d_values);
    // d_scores = p (d_p - <out, d_out>) scale
    const at::Tensor dots = (by_group(forward.out, block, kv_heads) * d_o).sum(2, /*keepdim=*/true);
    const at::Tensor d_scores =
        at::bmm(d_o, keys_of(in.v, block).transpose(1, 2)).sub_(dots).mul_(p).mul_(in.scale);
    store_by_group(at::bmm(d_scores, k), block, grads.q);
    add_to_keys(at::bmm(d_scores.transpose(1, 2), q), block, d_keys);
  });
  grads.k = d_keys.narrow(2, 0, dk).to(dtype).contiguous();
  if (in.k_shared.defined()) {
    grads.k_shared = d_keys.narrow(2, dk, in.k_shared.size(1)).sum(1).to(dtype);
  }
  grads.v = d_values.to(dtype);
  return grads;
}

}  // namespace sutor::ops
