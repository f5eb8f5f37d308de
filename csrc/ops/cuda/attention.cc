// FlashAttention, which torch brings, where it has what is asked for: bf16 or fp16, heads of up to
// 256 dimensions, queries whose keys are their own rows, no sinks. All else goes by plain products.
#include "csrc/ops/attention.h"

#include <ATen/Context.h>
#include <torch/types.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "csrc/ops/attention_by_products.h"

namespace sutor::ops::cuda {
namespace {

bool flash_serves(const AttentionInputs& in, const AttentionRuns& runs) {
  const auto dtype = in.q.scalar_type();
  const int64_t width = in.q.size(2);
  return (dtype == at::kBFloat16 || dtype == at::kHalf) && !in.sinks.defined() && runs.same_rows &&
         in.q.size(0) > 0 && width % 8 == 0 && width <= 256 && in.v.size(2) <= width;
}

// It wants keys and values as wide as the queries. Zeros after the values change nothing.
at::Tensor widened(const at::Tensor& x, int64_t width) {
  if (x.size(2) == width) return x.contiguous();
  return at::constant_pad_nd(x, {0, width - x.size(2)});
}

struct FlashShape {
  int64_t width, longest;
  std::optional<int64_t> keys_before;  // that a query sees besides its own
};

FlashShape shape_of(const AttentionInputs& in, const AttentionRuns& runs) {
  FlashShape shape;
  shape.width = in.q.size(2);
  // With a length of 1 it would take another way, with another layout of lse.
  shape.longest = std::max<int64_t>(2, runs.longest_queries);
  if (in.sliding_window > 0) shape.keys_before = in.sliding_window - 1;
  return shape;
}

std::optional<int64_t> keys_after(const FlashShape& shape) {
  return shape.keys_before ? std::optional<int64_t>(0) : std::nullopt;
}

// The backward kernel adds to dq in the order of arrival unless torch is told otherwise.
class InFixedOrder {
 public:
  InFixedOrder()
      : was_on_(at::globalContext().deterministicAlgorithms()),
        warned_only_(at::globalContext().deterministicAlgorithmsWarnOnly()) {
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  }
  ~InFixedOrder() { at::globalContext().setDeterministicAlgorithms(was_on_, warned_only_); }
  InFixedOrder(const InFixedOrder&) = delete;
  InFixedOrder& operator=(const InFixedOrder&) = delete;

 private:
  bool was_on_, warned_only_;
};

}  // namespace

Attended attention(const AttentionInputs& in, const AttentionRuns& runs, bool keep) {
  if (!flash_serves(in, runs)) return attention_by_products(in, runs);
  const FlashShape shape = shape_of(in, runs);
  const auto result = at::_flash_attention_forward(
      in.q.contiguous(), whole_keys(in).contiguous(), widened(in.v, shape.width),
      runs.query_offsets, runs.query_offsets, shape.longest, shape.longest, /*dropout_p=*/0.0,
      /*is_causal=*/true,
      /*return_debug_mask=*/false, in.scale, shape.keys_before, keys_after(shape));
  return {std::get<0>(result).narrow(2, 0, in.v.size(2)).contiguous(), std::get<1>(result)};
}

AttentionGradients attention_gradients(const AttentionInputs& in, const AttentionRuns& runs,
                                       const Attended& forward, const at::Tensor& d_out) {
  if (!flash_serves(in, runs)) return attention_gradients_by_products(in, runs, forward, d_out);
  const FlashShape shape = shape_of(in, runs);
  const at::Tensor no_random = at::zeros({2}, in.q.options().dtype(at::kUInt64));
  const InFixedOrder in_fixed_order;
  const auto [d_q, d_k, d_v] = at::_flash_attention_backward(
      widened(d_out, shape.width), in.q.contiguous(), whole_keys(in).contiguous(),
      widened(in.v, shape.width), widened(forward.out, shape.width), forward.lse,
      runs.query_offsets, runs.query_offsets, shape.longest, shape.longest, /*dropout_p=*/0.0,
      /*is_causal=*/true, no_random, no_random, in.scale, shape.keys_before, keys_after(shape));
  const int64_t dk = in.k.size(2);
  AttentionGradients grads{d_q, d_k, {}, d_v.narrow(2, 0, in.v.size(2)).contiguous()};
  if (in.k_shared.defined()) {
    grads.k = d_k.narrow(2, 0, dk).contiguous();
    grads.k_shared = d_k.narrow(2, dk, in.k_shared.size(1))
                         .sum(1, /*keepdim=*/false, at::kFloat)
                         .to(d_k.scalar_type());
  }
  return grads;
}

}  // namespace sutor::ops::cuda
