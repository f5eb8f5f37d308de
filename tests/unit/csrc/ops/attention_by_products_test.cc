// Attention by plain products beside a formula in double with autograd, for every kind of request.
#include "csrc/ops/attention_by_products.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

namespace sutor::ops {
namespace {

struct Case {
  const char* name;
  std::vector<int64_t> offsets;  // of the queries
  KeyRows keys;
  int64_t key_rows;
  int64_t shared = 0, window = 0;
  bool sinks = false;
};

AttentionInputs inputs_of(const Case& c) {
  at::manual_seed(1);
  const int64_t tokens = c.offsets.back();
  AttentionInputs in;
  in.q = at::randn({tokens, 4, 8});
  in.k = at::randn({c.key_rows, 2, 8 - c.shared});
  if (c.shared > 0) in.k_shared = at::randn({c.key_rows, c.shared});
  in.v = at::randn({c.key_rows, 2, 5});
  if (c.sinks) in.sinks = at::randn({4});
  in.scale = 0.4;
  in.sliding_window = c.window;
  return in;
}

AttentionRuns runs_of(const Case& c) {
  AttentionRuns runs;
  runs.offsets = c.offsets;
  runs.keys = c.keys;
  return runs;
}

// One query of one head at a time, as the contract reads.
at::Tensor plain_attention(const Case& c, const AttentionInputs& in) {
  at::Tensor keys = in.k;
  if (in.k_shared.defined()) {
    keys = at::cat({keys, in.k_shared.unsqueeze(1).expand({-1, 2, c.shared})}, 2);
  }
  std::vector<at::Tensor> rows;
  for (size_t run = 0; run < c.keys.counts.size(); ++run) {
    const int64_t first = c.offsets[run], queries = c.offsets[run + 1] - first;
    for (int64_t r = 0; r < queries; ++r) {
      const int64_t end = c.keys.counts[run] - (queries - 1 - r);
      const int64_t begin = c.window > 0 ? std::max<int64_t>(0, end - c.window) : 0;
      for (int64_t head = 0; head < 4; ++head) {
        const auto seen = [&](const at::Tensor& x) {
          return x.select(1, head / 2).narrow(0, c.keys.begins[run] + begin, end - begin);
        };
        at::Tensor scores = at::mv(seen(keys), in.q[first + r][head]) * in.scale;
        if (c.sinks) scores = at::cat({scores, in.sinks[head].view({1})});
        const at::Tensor weights = at::softmax(scores, 0).narrow(0, 0, end - begin);
        rows.push_back(at::mv(seen(in.v).t(), weights));
      }
    }
  }
  return at::stack(rows).view({in.q.size(0), 4, 5});
}

class ByProducts : public testing::TestWithParam<Case> {};

TEST_P(ByProducts, ValuesAndGradientsAreThoseOfTheFormula) {
  const Case& c = GetParam();
  const AttentionInputs in = inputs_of(c);
  AttentionInputs plain = in;
  std::vector<at::Tensor> leaves;
  for (at::Tensor* x : {&plain.q, &plain.k, &plain.v, &plain.k_shared}) {
    if (!x->defined()) continue;
    *x = x->to(at::kDouble).set_requires_grad(true);
    leaves.push_back(*x);
  }
  if (c.sinks) plain.sinks = in.sinks.to(at::kDouble);
  const at::Tensor d_out = at::randn({in.q.size(0), 4, 5});
  const at::Tensor expected = plain_attention(c, plain);
  const auto expected_grads = torch::autograd::grad({(expected * d_out).sum()}, leaves);

  const Attended forward = attention_by_products(in, runs_of(c));
  const AttentionGradients grads = attention_gradients_by_products(in, runs_of(c), forward, d_out);
  EXPECT_LT((forward.out - expected).abs().max().item<double>(), 1e-5);
  std::vector<at::Tensor> got{grads.q, grads.k, grads.v};
  if (c.shared > 0) got.push_back(grads.k_shared);
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].sizes(), leaves[i].sizes());
    EXPECT_LT((got[i] - expected_grads[i]).abs().max().item<double>(), 1e-5) << "input " << i;
  }
}

const KeyRows kOwn{{0, 5, 5}, {5, 0, 3}};  // an empty document between two
INSTANTIATE_TEST_SUITE_P(
    Kinds, ByProducts,
    testing::Values(Case{"Documents", {0, 5, 5, 8}, kOwn, 8},
                    Case{"SharedKeys", {0, 5, 5, 8}, kOwn, 8, 3},
                    Case{"Window", {0, 5, 5, 8}, kOwn, 8, 0, 2},
                    Case{"Sinks", {0, 5, 5, 8}, kOwn, 8, 0, 0, true},
                    Case{"WindowAndSinks", {0, 5, 5, 8}, kOwn, 8, 3, 2, true},
                    // The second run continues the first one's document; row 9 is nobody's key.
                    Case{"RunsOverSharedKeys", {0, 2, 5, 6}, {{1, 1, 7}, {4, 7, 2}}, 10}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sutor::ops
