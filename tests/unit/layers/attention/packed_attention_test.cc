// Attention over packed documents beside the plain formula: scores of all keys, a mask, a softmax.
#include "layers/attention/packed_attention.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>

namespace sutor {
namespace {

struct Case {
  const char* name;
  int64_t heads, kv_heads, dk, shared, dv;
  int64_t sliding_window;
  bool sinks;
};

// Gradients of q, k, the shared keys, v and the sinks, as far as they exist.
std::vector<at::Tensor> gradients(const at::Tensor& out, const std::vector<at::Tensor>& inputs) {
  const at::Tensor weights = at::arange(out.numel(), at::kFloat).reshape_as(out).sin();
  std::vector<at::Tensor> used;
  for (const at::Tensor& input : inputs) {
    if (input.defined()) used.push_back(input);
  }
  return torch::autograd::grad({(out * weights).sum()}, used);
}

// Key c of `keys` is at position c, query r at keys - queries + r.
at::Tensor plain(const at::Tensor& q, const at::Tensor& k, const at::Tensor& shared,
                 const at::Tensor& v, const at::Tensor& sinks, double scale,
                 int64_t sliding_window) {
  const int64_t heads = q.size(1), queries = q.size(0), keys = k.size(0);
  const int64_t group = heads / k.size(1);
  std::vector<at::Tensor> out;
  for (int64_t h = 0; h < heads; ++h) {
    at::Tensor key = k.select(1, h / group);
    if (shared.defined()) key = at::cat({key, shared}, 1);
    at::Tensor scores = at::mm(q.select(1, h), key.t()) * scale;
    const at::Tensor own = at::arange(queries).unsqueeze(1) + (keys - queries);
    const at::Tensor at = at::arange(keys).unsqueeze(0);
    at::Tensor hidden = at > own;
    if (sliding_window > 0) hidden = hidden.logical_or(at <= own - sliding_window);
    scores = scores.masked_fill(hidden, -std::numeric_limits<float>::infinity());
    if (sinks.defined()) scores = at::cat({scores, sinks[h].expand({queries, 1})}, 1);
    const at::Tensor weights = at::softmax(scores, 1).narrow(1, 0, keys);
    out.push_back(at::mm(weights, v.select(1, h / group)));
  }
  return at::stack(out, 1);
}

void expect_near(const at::Tensor& ours, const at::Tensor& theirs, const char* what) {
  ASSERT_EQ(ours.sizes(), theirs.sizes()) << what;
  EXPECT_LE((ours - theirs).abs().max().item<double>(), 2e-5) << what;
}

class PackedAttention : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    at::manual_seed(3);
    const Case& c = GetParam();
    q_ = at::randn({kTokens, c.heads, c.dk + c.shared}).set_requires_grad(true);
    k_ = at::randn({kTokens, c.kv_heads, c.dk}).set_requires_grad(true);
    v_ = at::randn({kTokens, c.kv_heads, c.dv}).set_requires_grad(true);
    if (c.shared > 0) shared_ = at::randn({kTokens, c.shared}).set_requires_grad(true);
    if (c.sinks) sinks_ = at::randn({c.heads}).set_requires_grad(true);
    options_ = {.scale = 0.3, .sliding_window = c.sliding_window, .sinks = sinks_};
  }

  std::vector<at::Tensor> inputs() const { return {q_, k_, shared_, v_, sinks_}; }

  at::Tensor plain_of(int64_t query, int64_t queries, int64_t key, int64_t keys) const {
    const auto part = [](const at::Tensor& x, int64_t begin, int64_t count) {
      return x.defined() ? x.narrow(0, begin, count) : x;
    };
    return plain(part(q_, query, queries), part(k_, key, keys), part(shared_, key, keys),
                 part(v_, key, keys), sinks_, options_.scale, options_.sliding_window);
  }

  static constexpr int64_t kTokens = 420;  // several blocks of queries
  at::Tensor q_, k_, shared_, v_, sinks_;
  AttentionOptions options_;
};

TEST_P(PackedAttention, DocumentsAreThoseOfThePlainFormulaWithTheirGradients) {
  const std::vector<int64_t> offsets = {0, 1, 38, 391, 420};
  const auto runs = std::make_shared<ops::AttentionRuns>(ops::runs_of_documents(offsets, at::kCPU));
  const at::Tensor ours = packed_attention(q_, k_, shared_, v_, runs, options_);
  std::vector<at::Tensor> documents;
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    const int64_t begin = offsets[d], count = offsets[d + 1] - begin;
    documents.push_back(plain_of(begin, count, begin, count));
  }
  const at::Tensor theirs = at::cat(documents);
  expect_near(ours, theirs, "output");
  const auto our_gradients = gradients(ours, inputs());
  const auto their_gradients = gradients(theirs, inputs());
  for (size_t i = 0; i < our_gradients.size(); ++i) {
    const double norm = their_gradients[i].norm().item<double>();
    EXPECT_LE((our_gradients[i] - their_gradients[i]).norm().item<double>(), 1e-5 * norm) << i;
  }
}

TEST_P(PackedAttention, QueriesSeeTheKeysBeforeThem) {
  // The last query alone, as in generation; a run in the middle; one at the end of many keys.
  const std::vector<int64_t> offsets = {0, 1, 60, 200};
  const KeyRows keys{{0, 100, 0}, {320, 90, 420}};
  at::NoGradGuard no_grad;
  const at::Tensor q = q_.narrow(0, 0, 200);
  const auto seen = std::make_shared<ops::AttentionRuns>(ops::runs_over(offsets, keys, at::kCPU));
  const at::Tensor ours = packed_attention(q, k_, shared_, v_, seen, options_);
  std::vector<at::Tensor> runs;
  for (size_t r = 0; r + 1 < offsets.size(); ++r) {
    runs.push_back(
        plain_of(offsets[r], offsets[r + 1] - offsets[r], keys.begins[r], keys.counts[r]));
  }
  expect_near(ours, at::cat(runs), "output");
}

INSTANTIATE_TEST_SUITE_P(Cases, PackedAttention,
                         ::testing::Values(Case{"Plain", 2, 2, 16, 0, 16, 0, false},
                                           Case{"Grouped", 6, 2, 10, 0, 10, 0, false},
                                           Case{"SharedKeys", 3, 3, 12, 6, 14, 0, false},
                                           Case{"Sinks", 4, 2, 16, 0, 16, 0, true},
                                           Case{"WindowOfOne", 4, 2, 8, 0, 8, 1, true},
                                           Case{"NarrowWindow", 4, 1, 8, 0, 8, 5, false},
                                           Case{"WindowWiderThanABlock", 4, 2, 8, 0, 8, 130, true},
                                           Case{"WindowWiderThanADocument", 2, 2, 8, 0, 8, 1000,
                                                true}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace sutor
