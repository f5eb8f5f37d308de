// Attention and its gradients beside the formula in float64: scores of all keys of a run, a mask, a
// softmax, a block of queries and a head at a time.
#include "csrc/ops/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <limits>

#include "tests/support/op_devices.h"

namespace sutor::ops {
namespace {

using namespace testing;  // NOLINT: sutor::testing

struct Case {
  const char* name;
  int64_t heads, kv_heads, dk, shared, dv;
  std::vector<int64_t> offsets;  // of the queries
  int64_t sliding_window = 0;
  bool sinks = false;
  bool slices = false;  // inputs are columns of wider tensors
  // Of runs over other rows: the keys of each, and the rows of k in all.
  KeyRows keys = {};
  int64_t key_rows = 0;
};

const std::vector<int64_t> kDocuments = {0, 1, 38, 391, 420};  // several blocks of queries
const std::vector<int64_t> kRuns = {0, 1, 60, 200};
// Two runs that share keys, one that does not; rows at the end and between that no query sees.
const KeyRows kKeys = {{0, 0, 420}, {320, 380, 200}};

const Case kCases[] = {
    {"NoRows", 2, 2, 8, 0, 8, {0}},
    {"OneToken", 2, 1, 8, 0, 8, {0, 1}},
    {"DocumentsOfOneToken", 2, 1, 8, 0, 8, {0, 1, 2, 3}, 0, true},
    {"DocumentsWithoutTokens", 2, 1, 8, 0, 8, {0, 0, 3, 3, 7, 7}},
    {"Plain", 2, 2, 16, 0, 16, kDocuments},
    {"SevenHeads", 7, 7, 10, 0, 10, kDocuments},
    {"SevenHeadsOfOneGroup", 7, 1, 10, 0, 10, kDocuments},
    {"Grouped", 6, 2, 11, 0, 5, kDocuments},
    {"NarrowValues", 3, 3, 16, 0, 8, kDocuments},
    {"SharedKeys", 3, 3, 12, 6, 12, kDocuments},
    {"SharedKeysOfGroups", 4, 2, 12, 6, 14, kDocuments, 0, true},
    {"Slices", 4, 2, 12, 6, 10, kDocuments, 0, false, true},
    {"Sinks", 4, 2, 16, 0, 16, kDocuments, 0, true},
    {"WindowOfOne", 4, 2, 8, 0, 8, kDocuments, 1, true},
    {"NarrowWindow", 4, 1, 8, 0, 8, kDocuments, 5},
    {"WindowWiderThanABlock", 4, 2, 8, 0, 8, kDocuments, 130, true},
    {"WindowWiderThanADocument", 2, 2, 8, 0, 8, kDocuments, 1000, true},
    {"OverOtherRows", 4, 2, 12, 0, 8, kRuns, 0, false, false, kKeys, 640},
    {"OverOtherRowsWithAllElse", 4, 2, 12, 6, 8, kRuns, 100, true, true, kKeys, 640},
    {"NoQueriesOverOtherRows", 2, 1, 8, 0, 8, {0, 0, 3}, 0, false, false, {{0, 10}, {10, 5}}, 16},
    {"NextTokensOfFour",
     7,
     1,
     8,
     4,
     6,
     {0, 1, 2, 3, 4},
     0,
     true,
     false,
     {{0, 40, 80, 120}, {33, 40, 1, 17}},
     160},
    {"NextTokensInAWindow", 4, 2, 8, 0, 8, {0, 1, 2}, 8, false, false, {{0, 40}, {33, 5}}, 80},
};

// Those of one head, or of two, so that the formula's scores take seconds.
const Case kLongCases[] = {
    {"DocumentsOf4096AndOfOneToken", 1, 1, 12, 0, 8, {0, 4096, 4097}},
    {"DocumentsOfOneAnd4096TokensInAWindow", 2, 1, 8, 4, 8, {0, 1, 4097}, 300, true},
};

// The keys [begin, end) of a run that query r of n sees: all but the last n - 1 - r, or the last of
// those.
struct Seen {
  int64_t begin, end;
};
Seen seen_by(int64_t r, int64_t n, int64_t keys, int64_t window) {
  const int64_t end = keys - (n - 1 - r);
  return {window > 0 ? std::max<int64_t>(0, end - window) : 0, end};
}

// As expect_near, for sums whose terms cancel: the error is relative to `size` at least.
void expect_near_sum(const at::Tensor& ours, const at::Tensor& reference, double tolerance,
                     double size, const char* what) {
  ASSERT_TRUE(ours.defined()) << what;
  ASSERT_EQ(ours.sizes(), reference.sizes()) << what;
  const double error = (as_double(ours) - reference).norm().item<double>();
  EXPECT_LE(error, tolerance * std::max(size, reference.norm().item<double>())) << what;
}

struct Wanted {
  at::Tensor out, lse, q, k, k_shared, v, sinks;  // the last five are gradients
};

// The formula in float64, of queries in blocks so that a document of 4,096 fits.
class Formula {
 public:
  Formula(const AttentionInputs& in, const AttentionRuns& runs, const at::Tensor& d_out)
      : in_(in), d_out_(as_double(d_out)) {
    const auto zeros = [](const at::Tensor& x) {
      return x.defined() ? at::zeros(x.sizes(), at::kDouble) : at::Tensor();
    };
    wanted_ = {zeros(d_out),       at::zeros({in.q.size(1), in.q.size(0)}, at::kDouble),
               zeros(in.q),        zeros(in.k),
               zeros(in.k_shared), zeros(in.v),
               zeros(in.sinks)};
    for (size_t run = 0; run < runs.size(); ++run) {
      const int64_t first = runs.offsets[run], queries = runs.offsets[run + 1] - first;
      for (int64_t head = 0; head < in.q.size(1); ++head) {
        for (int64_t at = 0; at < queries; at += kBlock) {
          add_block(head, first, at, std::min(kBlock, queries - at), queries, runs.keys.begins[run],
                    runs.keys.counts[run]);
        }
      }
    }
  }
  const Wanted& wanted() const { return wanted_; }

 private:
  static constexpr int64_t kBlock = 512;

  // Queries [at, at + rows) of a run that begins at row `first`, over the keys that any of them
  // sees.
  void add_block(int64_t head, int64_t first, int64_t at, int64_t rows, int64_t queries,
                 int64_t run_key, int64_t run_keys) {
    const auto seen = [&](int64_t r) {
      return seen_by(at + r, queries, run_keys, in_.sliding_window);
    };
    const int64_t begin = seen(0).begin, first_key = run_key + begin;
    const int64_t keys = seen(rows - 1).end - begin;
    at::Tensor hidden = at::ones({rows, keys}, at::kBool);
    for (int64_t r = 0; r < rows; ++r) {
      bool* const row = hidden.data_ptr<bool>() + r * keys - begin;
      std::fill(row + seen(r).begin, row + seen(r).end, false);
    }
    const int64_t kv_head = head / (in_.q.size(1) / in_.k.size(1));
    const at::Tensor q = leaf_of(in_.q.select(1, head).narrow(0, first + at, rows));
    const at::Tensor k = leaf_of(in_.k.select(1, kv_head).narrow(0, first_key, keys));
    const at::Tensor v = leaf_of(in_.v.select(1, kv_head).narrow(0, first_key, keys));
    std::vector<at::Tensor> leaves = {q, k, v}, key_parts = {k};
    std::vector<at::Tensor> gradients = {wanted_.q.select(1, head).narrow(0, first + at, rows),
                                         wanted_.k.select(1, kv_head).narrow(0, first_key, keys),
                                         wanted_.v.select(1, kv_head).narrow(0, first_key, keys)};
    if (in_.k_shared.defined()) {
      leaves.push_back(leaf_of(in_.k_shared.narrow(0, first_key, keys)));
      gradients.push_back(wanted_.k_shared.narrow(0, first_key, keys));
      key_parts.push_back(leaves.back());
    }
    at::Tensor scores = at::mm(q, at::cat(key_parts, 1).t()) * in_.scale;
    scores = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
    if (in_.sinks.defined()) {
      leaves.push_back(leaf_of(in_.sinks[head]));
      gradients.push_back(wanted_.sinks[head]);
      scores = at::cat({scores, leaves.back().expand({rows, 1})}, 1);
    }
    const at::Tensor out = at::mm(at::softmax(scores, 1).narrow(1, 0, keys), v);
    wanted_.out.select(1, head).narrow(0, first + at, rows).copy_(out.detach());
    wanted_.lse[head].narrow(0, first + at, rows).copy_(scores.detach().logsumexp(1));
    const at::Tensor d_out = d_out_.select(1, head).narrow(0, first + at, rows);
    const auto d = torch::autograd::grad({(out * d_out).sum()}, leaves);
    for (size_t i = 0; i < d.size(); ++i) gradients[i].add_(d[i]);
  }

  const AttentionInputs& in_;
  const at::Tensor d_out_;
  Wanted wanted_;
};

class Attention : public OperatorTest<at::ScalarType, Case> {
 protected:
  void SetUp() override {
    OperatorTest::SetUp();
    const int64_t tokens = c_.offsets.back(), rows = c_.key_rows > 0 ? c_.key_rows : tokens;
    uint64_t seed = 1;
    const auto draw = [&](std::vector<int64_t> sizes) {
      const int64_t width = sizes.back();
      if (c_.slices) sizes.back() += 8;
      return random_normal(sizes, dtype_, seed++).narrow(-1, c_.slices ? 4 : 0, width);
    };
    in_.q = draw({tokens, c_.heads, c_.dk + c_.shared});
    // As a projection gives them: the keys and values of a head side by side.
    const at::Tensor both = draw({rows, c_.kv_heads, c_.dk + c_.dv});
    in_.k = both.narrow(2, 0, c_.dk);
    in_.v = both.narrow(2, c_.dk, c_.dv);
    if (!c_.slices) in_.k = in_.k.contiguous(), in_.v = in_.v.contiguous();
    if (c_.shared > 0) in_.k_shared = draw({rows, c_.shared});
    if (c_.sinks) in_.sinks = random_normal({c_.heads}, at::kFloat, seed++);
    in_.scale = 0.3;
    in_.sliding_window = c_.sliding_window;
    d_out_ = random_normal({tokens, c_.heads, c_.dv}, dtype_, seed++);
  }

  static AttentionInputs on_device(const AttentionInputs& in) {
    // With its strides: moving a slice would pack it.
    const auto same = [](const at::Tensor& x) {
      if (!x.defined()) return x;
      at::Tensor y = at::empty_strided(x.sizes(), x.strides(), x.options().device(device()));
      return y.copy_(x);
    };
    return {same(in.q),     same(in.k), same(in.k_shared), same(in.v),
            same(in.sinks), in.scale,   in.sliding_window};
  }
  AttentionRuns runs_on(at::Device device) const {
    return c_.key_rows > 0 ? runs_over(c_.offsets, c_.keys, device)
                           : runs_of_documents(c_.offsets, device);
  }

  const at::ScalarType dtype_ = std::get<1>(GetParam());
  const Case& c_ = std::get<2>(GetParam());
  const double tolerance_ = tolerance_of(dtype_);
  AttentionInputs in_;
  at::Tensor d_out_;
};

TEST_P(Attention, ValuesAndGradientsAreThoseOfTheFormula) {
  const AttentionRuns runs = runs_on(device());
  const Formula formula(in_, runs, d_out_);
  const Wanted& wanted = formula.wanted();
  const AttentionInputs in = on_device(in_);
  const at::Tensor d_out = moved(d_out_);

  const Attended alone = without_host_reads([&] { return attention(in, runs, /*keep=*/false); });
  EXPECT_EQ(alone.out.scalar_type(), dtype_);
  EXPECT_EQ(alone.out.device(), in.q.device());
  expect_near(alone.out, wanted.out, tolerance_, "output, not kept");
  const Attended kept = without_host_reads([&] { return attention(in, runs, /*keep=*/true); });
  EXPECT_EQ(kept.out.scalar_type(), dtype_);
  expect_near(kept.out, wanted.out, tolerance_, "output");
  EXPECT_EQ(kept.lse.scalar_type(), at::kFloat);
  expect_near(kept.lse, wanted.lse, tolerance_, "lse");

  const AttentionGradients d =
      without_host_reads([&] { return attention_gradients(in, runs, kept, d_out); });
  EXPECT_EQ(d.q.scalar_type(), dtype_);
  // Of a query with one key they are the difference of equal numbers of size one.
  expect_near_sum(d.q, wanted.q, tolerance_, 1, "gradient of q");
  expect_near_sum(d.k, wanted.k, tolerance_, 1, "gradient of k");
  expect_near(d.v, wanted.v, tolerance_, "gradient of v");
  EXPECT_EQ(d.k_shared.defined(), in.k_shared.defined());
  if (in.k_shared.defined()) {
    expect_near_sum(d.k_shared, wanted.k_shared, tolerance_, 1, "gradient of k_shared");
  }
  if (in.sinks.defined()) {
    const at::Tensor d_sinks =
        without_host_reads([&] { return sink_gradient(in.sinks, kept, d_out); });
    EXPECT_EQ(d_sinks.scalar_type(), at::kFloat);
    // Products with the output as it was rounded, added up over the rows.
    const at::Tensor weights = (as_double(in_.sinks).unsqueeze(1) - wanted.lse).exp();
    const at::Tensor lengths = wanted.out.norm(2, {2}) * as_double(d_out_).norm(2, {2});
    const double size = (weights * lengths.t()).sum(1).norm().item<double>();
    expect_near_sum(d_sinks, wanted.sinks, tolerance_, size, "gradient of the sinks");
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, Attention, on_all_devices_in_both_dtypes(kCases), NamesOfParams());

// The fake device is the CPU, once more and on one thread.
std::vector<OpDevice> all_but_the_fake_device() {
  std::vector<OpDevice> devices = op_devices();
  std::erase(devices, OpDevice::kFake);
  return devices;
}
INSTANTIATE_TEST_SUITE_P(LongOps, Attention,
                         ::testing::Combine(::testing::ValuesIn(all_but_the_fake_device()),
                                            ::testing::Values(at::kFloat, at::kBFloat16),
                                            ::testing::ValuesIn(kLongCases)),
                         NamesOfParams());

class UnseenKeys : public OperatorTest<at::ScalarType> {};

// Two runs over the same four of eight rows: the memory of the others' gradients held NaNs before.
// Disabled: the CPU takes as many keys as queries for keys that are all seen, and clears none.
TEST_P(UnseenKeys, HaveGradientsOfZeroWhereThereAreAsManyKeysAsQueries) {
  const at::ScalarType dtype = std::get<1>(GetParam());
  const auto draw = [&](uint64_t seed) { return moved(random_normal({8, 2, 8}, dtype, seed)); };
  const AttentionInputs in{draw(1), draw(2), {}, draw(3), {}, 0.3, 0};
  const AttentionRuns runs = runs_over({0, 4, 8}, {{0, 0}, {4, 4}}, device());
  const Attended kept = attention(in, runs, /*keep=*/true);
  const at::Tensor d_out = draw(4);
  for (int i = 0; i < 4; ++i) {
    std::vector<at::Tensor> freed;
    for (int n = 0; n < 8; ++n)
      freed.push_back(at::full_like(in.k, std::numeric_limits<double>::quiet_NaN()));
    freed.clear();
    const AttentionGradients d = attention_gradients(in, runs, kept, d_out);
    EXPECT_EQ(as_double(d.k).narrow(0, 4, 4).ne(0).sum().item<int64_t>(), 0);
    EXPECT_EQ(as_double(d.v).narrow(0, 4, 4).ne(0).sum().item<int64_t>(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, UnseenKeys,
                         ::testing::Combine(::testing::ValuesIn(op_devices()),
                                            ::testing::Values(at::kFloat, at::kBFloat16)),
                         NamesOfParams());

}  // namespace
}  // namespace sutor::ops
