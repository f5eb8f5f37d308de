// The routed experts and their gradients beside the formula in float64, expert by expert.
#include "csrc/ops/expert_mlp.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include <array>
#include <cmath>

#include "tests/support/op_devices.h"

namespace sutor::ops {
namespace {

using namespace testing;  // NOLINT: sutor::testing

struct Case {
  const char* name;
  int64_t hidden, width;
  std::vector<int64_t> counts;  // rows of each slot
  int64_t num_trained;
  int64_t num_lora = 0;
  bool has_biases = false, adds_down_bias = false;
  GatedActivation activation = {};
};

constexpr GatedActivation kGptOss{.alpha = 1.702F, .limit = 7, .up_offset = 1};
constexpr GatedActivation kNoLimit{.alpha = 1.702F, .up_offset = 1};
constexpr GatedActivation kLimitAlone{.limit = 1.5F};

const Case kCases[] = {
    {"NoRows", 8, 6, {0, 0, 0}, 2},
    {"NoRowsWithBiases", 8, 6, {0, 0}, 1, 0, true, true, kGptOss},
    {"NoRowsWithPairs", 8, 6, {0, 0, 0}, 0, 2},
    {"OneRow", 5, 3, {0, 1, 0}, 2},
    {"OneRowOfAFrozenSlot", 5, 3, {0, 0, 1}, 2},
    {"OddSizes", 5, 3, {4, 0, 7, 1, 0}, 3},
    {"NoneTrained", 16, 12, {9, 0, 33, 2}, 0},
    {"AllTrained", 16, 12, {9, 0, 33, 2}, 4},
    {"SomeTrained", 64, 48, {17, 0, 130, 5, 0, 40}, 3},
    {"AllRowsInATrainedSlot", 32, 20, {0, 600, 0, 0}, 2},
    {"AllRowsInAFrozenSlot", 32, 20, {0, 0, 0, 600}, 2},
    {"OneSlot", 24, 10, {50}, 1},
    {"Biases", 16, 12, {9, 0, 33, 2}, 2, 0, true, true},
    {"BiasesOfAnotherRank", 16, 12, {9, 0, 33, 2}, 2, 0, true, false},
    {"GptOss", 20, 14, {12, 31, 0, 8}, 2, 0, true, true, kGptOss},
    {"GptOssOddSizes", 5, 3, {12, 31, 0, 8}, 4, 0, true, true, kGptOss},
    {"GptOssOfAnotherRank", 20, 14, {12, 31, 0, 8}, 1, 0, true, false, kGptOss},
    {"WithoutLimit", 20, 14, {12, 31, 0, 8}, 2, 0, false, false, kNoLimit},
    {"LimitAlone", 20, 14, {12, 31, 0, 8}, 2, 0, false, false, kLimitAlone},
    {"Pairs", 16, 12, {9, 0, 33, 2}, 0, 2},
    {"PairsOfAllSlots", 5, 3, {9, 0, 33, 2}, 0, 4},
    {"PairsOfOneSlot", 16, 12, {0, 12, 5}, 0, 1},
    {"PairsAndBiases", 16, 12, {9, 0, 33, 2}, 0, 3, true, true, kGptOss},
};

// All slots in one tensor each.
struct Tensors {
  at::Tensor gate_up, down, gate_up_bias, down_bias;
};

struct Pairs {  // [slots with pairs] of each: a and b of gate, up and down
  std::vector<std::array<at::Tensor, 6>> of_slot;
};

constexpr double kLoraScale = 0.7;
constexpr int64_t kTokens = 29;  // rows of the source

at::Tensor through_pair(const at::Tensor& x, const at::Tensor& a, const at::Tensor& b) {
  return kLoraScale * at::mm(at::mm(x, a.t()), b.t());
}

class ExpertMlp : public OperatorTest<at::ScalarType, Case> {
 protected:
  void SetUp() override {
    OperatorTest::SetUp();
    const int64_t h = c_.hidden, w = c_.width, n = slots();
    offsets_.assign(1, 0);
    for (const int64_t count : c_.counts) offsets_.push_back(offsets_.back() + count);
    const auto draw = [&](at::IntArrayRef sizes, double scale) {
      return (random_normal(sizes, at::kFloat, seed_++) * scale).to(dtype_);
    };
    // Gates and ups of which some are beyond GPT-OSS's limit.
    weights_.gate_up = draw({n, 2 * w, h}, 3 / std::sqrt(static_cast<double>(h)));
    weights_.down = draw({n, h, w}, 1 / std::sqrt(static_cast<double>(w)));
    if (c_.has_biases) {
      weights_.gate_up_bias = draw({n, 2 * w}, 1);
      weights_.down_bias = draw({n, h}, 1);
    }
    for (int64_t slot = 0; slot < c_.num_lora; ++slot) {
      const int64_t r = 2 + slot;
      pairs_.of_slot.push_back({draw({r, h}, 0.5), draw({w, r}, 0.5), draw({r, h}, 0.5),
                                draw({w, r}, 0.5), draw({r, w}, 0.5), draw({h, r}, 0.5)});
    }
    source_ = draw({kTokens, h}, 1);
    d_source_ = draw({kTokens, h}, 1);
    index_ = random_below(kTokens, {rows()}, seed_++);
    row_weights_ = random_uniform({rows()}, seed_++) + 0.1;
  }
  int64_t slots() const { return static_cast<int64_t>(c_.counts.size()); }
  int64_t rows() const { return offsets_.back(); }

  // Gradients that stand there before.
  at::Tensor earlier(const at::Tensor& like, uint64_t seed) const {
    return moved(random_normal(like.sizes(), at::kFloat, 1000 + seed));
  }
  ExpertWeights experts() const {
    ExpertWeights e;
    e.num_local = slots(), e.num_trained = c_.num_trained;
    e.hidden = c_.hidden, e.width = c_.width;
    e.has_biases = c_.has_biases, e.adds_down_bias = c_.adds_down_bias;
    uint64_t seed = 0;
    const auto split = [&](const at::Tensor& all, at::Tensor ExpertTensors::*member) {
      if (!all.defined()) return;
      const int64_t n = c_.num_trained;
      e.trained.*member = moved(all.narrow(0, 0, n).clone());
      e.frozen.*member = moved(all.narrow(0, n, slots() - n).clone());
      e.grads.*member = earlier(all.narrow(0, 0, n), seed++);
    };
    split(weights_.gate_up, &ExpertTensors::gate_up);
    split(weights_.down, &ExpertTensors::down);
    split(weights_.gate_up_bias, &ExpertTensors::gate_up_bias);
    split(weights_.down_bias, &ExpertTensors::down_bias);
    for (const auto& of : pairs_.of_slot) {
      const auto pair = [&](size_t at) {
        const at::Tensor &a = of[at], &b = of[at + 1];
        return LoraPair{moved(a), moved(b), earlier(a, seed++), earlier(b, seed++)};
      };
      e.lora.push_back({pair(0), pair(2), pair(4), kLoraScale});
    }
    return e;
  }
  ExpertRows inputs() const {
    return {moved(source_), moved(index_), moved(row_weights_), moved(longs(offsets_))};
  }
  // The offsets may be read where there are pairs.
  template <typename F>
  static auto run(F&& f) {
    if (std::get<2>(GetParam()).num_lora > 0) return f();
    return without_host_reads(f);
  }

  const at::ScalarType dtype_ = std::get<1>(GetParam());
  const Case& c_ = std::get<2>(GetParam());
  const double tolerance_ = tolerance_of(dtype_);
  uint64_t seed_ = 1;
  std::vector<int64_t> offsets_;
  Tensors weights_;
  Pairs pairs_;
  at::Tensor source_, d_source_, index_, row_weights_;
};

// The formula in float64 with its gradients.
struct Wanted {
  at::Tensor y, rows, weights_R;
  Tensors d;
  Pairs d_pairs;
};

struct Inputs {
  const Case& c;
  const std::vector<int64_t>& offsets;
  at::Tensor x, row_weights;  // [R, H], [R]
  Tensors weights;
  Pairs pairs;
};

at::Tensor activated(const GatedActivation& act, const at::Tensor& gate, const at::Tensor& up) {
  const double limit = act.limit;
  const at::Tensor g = gate.clamp_max(limit), u = up.clamp(-limit, limit);
  return (u + act.up_offset) * g * at::sigmoid(g * act.alpha);
}

at::Tensor formula_of_slot(const Inputs& in, int64_t slot) {
  const int64_t first = in.offsets[slot], n = in.offsets[slot + 1] - first, w = in.c.width;
  const bool paired = slot < in.c.num_lora;
  const at::Tensor x = in.x.narrow(0, first, n);
  const at::Tensor row_weights = in.row_weights.narrow(0, first, n).unsqueeze(1);
  at::Tensor gate_up = at::mm(x, in.weights.gate_up[slot].t());
  if (in.c.has_biases) gate_up = gate_up + in.weights.gate_up_bias[slot];
  at::Tensor gate = gate_up.narrow(1, 0, w), up = gate_up.narrow(1, w, w);
  if (paired) {
    const auto& pairs = in.pairs.of_slot[static_cast<size_t>(slot)];
    gate = gate + through_pair(x, pairs[0], pairs[1]);
    up = up + through_pair(x, pairs[2], pairs[3]);
  }
  const at::Tensor act = row_weights * activated(in.c.activation, gate, up);
  at::Tensor y = at::mm(act, in.weights.down[slot].t());
  if (in.c.has_biases && in.c.adds_down_bias) {
    y = y + row_weights * in.weights.down_bias[slot];
  }
  if (paired) {
    const auto& pairs = in.pairs.of_slot[static_cast<size_t>(slot)];
    y = y + through_pair(act, pairs[4], pairs[5]);
  }
  return y;
}

Wanted formula(const Inputs& given, const at::Tensor& d_y) {
  std::vector<at::Tensor> leaves;
  const auto leaf = [&](const at::Tensor& x) {
    if (!x.defined()) return x;
    leaves.push_back(leaf_of(x));
    return leaves.back();
  };
  Inputs in{given.c, given.offsets, leaf(given.x), leaf(given.row_weights), {}, {}};
  in.weights.gate_up = leaf(given.weights.gate_up);
  in.weights.down = leaf(given.weights.down);
  in.weights.gate_up_bias = leaf(given.weights.gate_up_bias);
  in.weights.down_bias = leaf(given.weights.down_bias);
  in.pairs = given.pairs;
  for (auto& of : in.pairs.of_slot) {
    for (at::Tensor& x : of) x = leaf(x);
  }
  std::vector<at::Tensor> parts;
  for (size_t slot = 0; slot < given.c.counts.size(); ++slot) {
    parts.push_back(formula_of_slot(in, static_cast<int64_t>(slot)));
  }
  const at::Tensor y = at::cat(parts);
  // The bias of down may take no part.
  const auto gradients = torch::autograd::grad({(y * as_double(d_y)).sum()}, leaves, {}, {},
                                               /*create_graph=*/false, /*allow_unused=*/true);
  size_t next = 0;
  const auto gradient = [&](const at::Tensor& of) {
    if (!of.defined()) return of;
    const at::Tensor& d = gradients[next++];
    return d.defined() ? d : at::zeros_like(of).detach();
  };
  Wanted wanted{y.detach(), gradient(in.x), gradient(in.row_weights), {}, {}};
  wanted.d.gate_up = gradient(in.weights.gate_up);
  wanted.d.down = gradient(in.weights.down);
  wanted.d.gate_up_bias = gradient(in.weights.gate_up_bias);
  wanted.d.down_bias = gradient(in.weights.down_bias);
  wanted.d_pairs = in.pairs;
  for (auto& of : wanted.d_pairs.of_slot) {
    for (at::Tensor& x : of) x = gradient(x);
  }
  return wanted;
}

// What was added to the gradients of trained slots: nothing at all to those of slots without rows.
void expect_added(const Case& c, const at::Tensor& after, const at::Tensor& before,
                  const at::Tensor& wanted, double tolerance, const char* what) {
  expect_near(as_double(after) - as_double(before), wanted.narrow(0, 0, c.num_trained), tolerance,
              what);
  for (int64_t slot = 0; slot < c.num_trained; ++slot) {
    if (c.counts[static_cast<size_t>(slot)] > 0) continue;
    expect_same_bits(after[slot], before[slot], what);
  }
}

void expect_added(const LoraPair& after, const LoraPair& before, const at::Tensor& wanted_a,
                  const at::Tensor& wanted_b, double tolerance, const char* what) {
  expect_near(as_double(after.grad_a) - as_double(before.grad_a), wanted_a, tolerance, what);
  expect_near(as_double(after.grad_b) - as_double(before.grad_b), wanted_b, tolerance, what);
}

TEST_P(ExpertMlp, OutputIsThatOfTheFormula) {
  const Wanted wanted =
      formula({c_, offsets_, source_.index_select(0, index_), row_weights_, weights_, pairs_},
              d_source_.index_select(0, index_));
  const ExpertRows in = inputs();
  const ExpertWeights e = experts();
  const at::Tensor y = run([&] { return expert_mlp(in, e, c_.activation, nullptr); });
  EXPECT_EQ(y.scalar_type(), dtype_);
  EXPECT_EQ(y.device(), in.source.device());
  expect_near(y, wanted.y, tolerance_, "output");
  ExpertsSaved saved;
  expect_near(run([&] { return expert_mlp(in, e, c_.activation, &saved); }), wanted.y, tolerance_,
              "output of a pass that a backward pass follows");
}

TEST_P(ExpertMlp, GradientsAreThoseOfTheFormulaAndAddToWhatIsThere) {
  const Wanted wanted =
      formula({c_, offsets_, source_.index_select(0, index_), row_weights_, weights_, pairs_},
              d_source_.index_select(0, index_));
  const at::Tensor d_source = moved(d_source_);
  for (const bool want_rows : {true, false}) {
    for (const bool want_weights : {true, false}) {
      SCOPED_TRACE(::testing::Message() << "rows " << want_rows << ", weights " << want_weights);
      ExpertRows in = inputs();
      const ExpertWeights e = experts(), before = experts();
      ExpertsSaved saved;
      expert_mlp(in, e, c_.activation, &saved);
      in.source = at::Tensor();
      const ExpertsGradients d = run([&] {
        return expert_mlp_backward(in, e, c_.activation, saved, d_source, want_rows, want_weights);
      });
      EXPECT_EQ(d.rows.defined(), want_rows);
      EXPECT_EQ(d.weights_R.defined(), want_weights);
      if (want_rows) expect_near(d.rows, wanted.rows, tolerance_, "gradient of rows");
      if (want_weights) {
        EXPECT_EQ(d.weights_R.scalar_type(), at::kFloat);
        expect_near(d.weights_R, wanted.weights_R, tolerance_, "gradient of routing weights");
      }
      const auto added = [&](at::Tensor ExpertTensors::*member, const at::Tensor& of,
                             const char* what) {
        expect_added(c_, e.grads.*member, before.grads.*member, of, tolerance_, what);
      };
      added(&ExpertTensors::gate_up, wanted.d.gate_up, "gradient of gate_up");
      added(&ExpertTensors::down, wanted.d.down, "gradient of down");
      if (c_.has_biases) {
        added(&ExpertTensors::gate_up_bias, wanted.d.gate_up_bias, "gradient of gate_up_bias");
        added(&ExpertTensors::down_bias, wanted.d.down_bias, "gradient of down_bias");
      }
      for (size_t slot = 0; slot < e.lora.size(); ++slot) {
        const auto& of = wanted.d_pairs.of_slot[slot];
        const ExpertLora &ours = e.lora[slot], &was = before.lora[slot];
        expect_added(ours.gate, was.gate, of[0], of[1], tolerance_, "pair of gate");
        expect_added(ours.up, was.up, of[2], of[3], tolerance_, "pair of up");
        expect_added(ours.down, was.down, of[4], of[5], tolerance_, "pair of down");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, ExpertMlp, on_all_devices_in_both_dtypes(kCases), NamesOfParams());

}  // namespace
}  // namespace sutor::ops
