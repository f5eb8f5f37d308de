// The router beside the families' routing, token by token in double precision: Mixtral (arXiv
// 2401.04088, section 2.1), DeepSeek-V2 (2405.04434, eqs. 20-22 and section 2.2.2), DeepSeek-V3
// (2412.19437, eqs. 12-16), and the routers of transformers 5.23.0.
#include "layers/moe/router.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "csrc/comm/comm.h"
#include "parallel_state/parallel_state.h"

namespace sutor {
namespace {

constexpr int64_t kExperts = 16, kHidden = 12;

// A router and the storage of its parameters, on one rank.
class OneRouter {
 public:
  OneRouter(const RouterOptions& options, at::ScalarType dtype = at::kFloat)
      : info_(model(options)),
        world_(make_self_comm()),
        parallel_(
            {}, info_, [](const TensorEntry&) { return false; }, *world_),
        store_(info_, {}, parallel_, dtype, false),
        router_(store_, "gate", options) {
    for (const TensorEntry& entry : info_.tensors.entries()) {
      at::Tensor& value = store_.get(entry.name).value;
      value.copy_(at::randn(value.sizes()) * 0.5);
    }
  }

  Routing forward(const at::Tensor& x, const at::Tensor& mask = {}) const {
    return router_.forward(x, mask);
  }
  at::Tensor& weight() { return store_.get("gate.weight").value; }
  at::Tensor& correction_bias() { return store_.get("gate.e_score_correction_bias").value; }
  at::Tensor value_or_zeros(const std::string& name) {
    const Parameter* found = store_.find("gate." + name);
    return found ? found->value.to(at::kDouble) : at::zeros({kExperts}, at::kDouble);
  }

 private:
  static ModelInfo model(const RouterOptions& options) {
    ModelInfo model{.family = "routers", .num_layers = 1, .num_experts = kExperts};
    model.moe_layer = {false};
    const auto add = [&](const std::string& name, std::vector<int64_t> shape, TensorRole role) {
      TensorEntry entry;
      entry.name = "gate." + name;
      entry.shape = std::move(shape);
      entry.role = role;
      entry.layer = 0;
      model.tensors.add(std::move(entry));
    };
    add("weight", {kExperts, kHidden}, TensorRole::kRouter);
    if (options.bias) add("bias", {kExperts}, TensorRole::kRouter);
    if (options.correction_bias) {
      add("e_score_correction_bias", {kExperts}, TensorRole::kCorrectionBias);
    }
    return model;
  }

  ModelInfo info_;
  std::unique_ptr<Comm> world_;
  ParallelState parallel_;
  ParameterStore store_;
  Router router_;
};

using Doubles = std::vector<double>;

Doubles row(const at::Tensor& tensor) {
  const at::Tensor values = tensor.detach().to(at::kDouble).contiguous();
  return {values.data_ptr<double>(), values.data_ptr<double>() + values.numel()};
}

Doubles softmax(const Doubles& logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  Doubles result;
  double sum = 0;
  for (const double logit : logits) sum += result.emplace_back(std::exp(logit - most));
  for (double& value : result) value /= sum;
  return result;
}

std::vector<int> best(const Doubles& values, int count) {
  std::vector<int> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return values[a] > values[b]; });
  order.resize(static_cast<size_t>(count));
  return order;
}

// One token's routing from its logits.
struct PlainRouting {
  std::map<int, double> unscaled;  // of the chosen experts
  Doubles probabilities;
};

// The experts of the best groups, a group being as good as the sum of its best experts.
Doubles only_best_groups(const Doubles& score, const RouterOptions& options) {
  const int each = static_cast<int>(score.size()) / options.num_groups;
  Doubles goodness;
  for (int g = 0; g < options.num_groups; ++g) {
    const Doubles group(score.begin() + g * each, score.begin() + (g + 1) * each);
    double sum = 0;
    for (const int e : best(group, options.group_best)) sum += group[e];
    goodness.push_back(sum);
  }
  Doubles result(score.size(), -1e9);
  for (const int g : best(goodness, options.topk_group)) {
    std::copy_n(score.begin() + g * each, each, result.begin() + g * each);
  }
  return result;
}

PlainRouting plain(const Doubles& logits, const Doubles& correction, const RouterOptions& options) {
  PlainRouting result;
  Doubles score = softmax(logits);
  result.probabilities = score;
  if (options.scoring == RouterScoring::kSigmoid) {
    for (size_t e = 0; e < logits.size(); ++e) score[e] = 1 / (1 + std::exp(-logits[e]));
    const double sum = std::accumulate(score.begin(), score.end(), 0.0);
    for (size_t e = 0; e < logits.size(); ++e) result.probabilities[e] = score[e] / sum;
  }
  if (options.scoring == RouterScoring::kSoftmaxChosen) score = logits;
  Doubles selection = score;
  for (size_t e = 0; e < selection.size(); ++e) selection[e] += correction[e];
  if (options.num_groups > 0) selection = only_best_groups(selection, options);
  const std::vector<int> chosen = best(selection, options.top_k);
  Doubles weights;
  for (const int e : chosen) weights.push_back(score[e]);
  if (options.scoring == RouterScoring::kSoftmaxChosen) weights = softmax(weights);
  if (options.renormalize) {
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (double& weight : weights) weight /= sum;
  }
  for (size_t k = 0; k < chosen.size(); ++k) result.unscaled[chosen[k]] = weights[k];
  return result;
}

// x [T, H] in double; the parameters are those of the router.
std::vector<PlainRouting> plain_of(const at::Tensor& x, OneRouter& router,
                                   const RouterOptions& options) {
  const at::Tensor logits =
      at::mm(x.detach().to(at::kDouble), router.weight().to(at::kDouble).t()) +
      router.value_or_zeros("bias");
  const Doubles correction = row(router.value_or_zeros("e_score_correction_bias"));
  std::vector<PlainRouting> result;
  for (int64_t t = 0; t < x.size(0); ++t) {
    result.push_back(plain(row(logits[t]), correction, options));
  }
  return result;
}

struct Case {
  const char* name;
  RouterOptions options;
};

// What the families' files (layers/models/) make of their config.json.
std::vector<Case> families() {
  const RouterOptions deepseek_v2{.top_k = 6, .fp32_logits = true, .fp32_weights = true};
  RouterOptions group_limited = deepseek_v2;
  group_limited.top_k = 3;
  group_limited.scale = 16;
  group_limited.num_groups = 4;
  group_limited.topk_group = 2;
  const RouterOptions glm{.top_k = 4,
                          .scoring = RouterScoring::kSigmoid,
                          .fp32_logits = true,
                          .renormalize = true,
                          .renormalize_epsilon = 1e-20,
                          .fp32_weights = true,
                          .scale = 2.5,
                          .correction_bias = true};
  RouterOptions deepseek_v3 = glm;
  deepseek_v3.num_groups = 8;
  deepseek_v3.topk_group = 4;
  deepseek_v3.group_best = 2;
  return {
      {"DeepseekV2Lite", deepseek_v2},
      {"DeepseekV2", group_limited},
      {"DeepseekV3", deepseek_v3},
      {"Glm4Moe", glm},
      {"GptOss", {.top_k = 4, .scoring = RouterScoring::kSoftmaxChosen, .bias = true}},
      {"Mixtral", {.top_k = 2, .renormalize = true, .fp32_weights = true}},
      {"Olmoe", {.top_k = 8}},
      {"Qwen3Moe", {.top_k = 8, .renormalize = true}},
      {"OneExpert", {.top_k = 1}},
      {"AllExperts", {.top_k = kExperts}},
  };
}

class RouterOfFamily : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override { at::manual_seed(11); }
  const RouterOptions& options() const { return GetParam().options; }
};

TEST_P(RouterOfFamily, ChoosesAndWeighsAsTheFormulaDoes) {
  OneRouter router(options());
  const at::Tensor x = at::randn({40, kHidden});
  const Routing routing = router.forward(x);
  const std::vector<PlainRouting> wanted = plain_of(x, router, options());
  ASSERT_EQ(routing.topk_idx.sizes(), (std::vector<int64_t>{40, options().top_k}));
  for (int64_t t = 0; t < 40; ++t) {
    std::map<int, double> found;
    for (int64_t k = 0; k < options().top_k; ++k) {
      const int expert = routing.topk_idx[t][k].item<int>();
      found[expert] = routing.unscaled[t][k].item<double>();
      EXPECT_NEAR(routing.topk_weights[t][k].item<double>(), options().scale * found[expert], 1e-6);
    }
    ASSERT_EQ(found.size(), wanted[t].unscaled.size()) << "an expert stands twice at " << t;
    for (const auto& [expert, weight] : wanted[t].unscaled) {
      ASSERT_TRUE(found.count(expert)) << "token " << t << ", expert " << expert;
      EXPECT_NEAR(found[expert], weight, 1e-6) << "token " << t << ", expert " << expert;
    }
    for (int64_t e = 0; e < kExperts; ++e) {
      EXPECT_NEAR(routing.probabilities[t][e].item<double>(), wanted[t].probabilities[e], 1e-6);
    }
  }
}

// d of a weighted sum of all weights by central differences of the plain form. The steps are far
// smaller than what it takes to change a choice.
TEST_P(RouterOfFamily, ItsGradientIsThatOfTheFormula) {
  OneRouter router(options());
  const at::Tensor x = at::randn({3, kHidden}).set_requires_grad(true);
  const Routing routing = router.forward(x);
  const auto g = [](int64_t t, int64_t expert) { return std::sin(3.0 * t + 1.7 * expert); };
  at::Tensor sum = at::zeros({}, at::kFloat);
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t k = 0; k < options().top_k; ++k) {
      sum = sum + routing.topk_weights[t][k] * g(t, routing.topk_idx[t][k].item<int64_t>());
    }
  }
  const at::Tensor dx = torch::autograd::grad({sum}, {x})[0];
  const auto plain_sum = [&](const at::Tensor& at_x, int64_t t) {
    double result = 0;
    const PlainRouting routing = plain_of(at_x, router, options())[t];
    for (const auto& [expert, weight] : routing.unscaled) result += weight * g(t, expert);
    return result * options().scale;
  };
  constexpr double kStep = 1e-5;
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t h = 0; h < kHidden; ++h) {
      at::Tensor up = x.detach().to(at::kDouble).clone(), down = up.clone();
      up[t][h] += kStep;
      down[t][h] -= kStep;
      const double wanted = (plain_sum(up, t) - plain_sum(down, t)) / (2 * kStep);
      EXPECT_NEAR(dx[t][h].item<double>(), wanted, 2e-5 * options().scale) << t << " " << h;
    }
  }
}

TEST_P(RouterOfFamily, NoTokensAreRoutedToo) {
  OneRouter router(options());
  const Routing routing = router.forward(at::empty({0, kHidden}));
  EXPECT_EQ(routing.topk_idx.sizes(), (std::vector<int64_t>{0, options().top_k}));
  EXPECT_EQ(routing.topk_weights.sizes(), (std::vector<int64_t>{0, options().top_k}));
  EXPECT_EQ(routing.probabilities.sizes(), (std::vector<int64_t>{0, kExperts}));
}

TEST_P(RouterOfFamily, MaskedExpertsAreNeverChosen) {
  OneRouter router(options());
  const at::Tensor x = at::randn({40, kHidden});
  // Just enough experts are left, and in as many groups as are chosen where there are groups.
  const int64_t left = std::max(4, options().top_k);
  at::Tensor mask = at::zeros({kExperts});
  mask.narrow(0, left > 8 ? 0 : 8, left).fill_(1);
  const Routing routing = router.forward(x, mask);
  EXPECT_TRUE((mask.index_select(0, routing.topk_idx.view(-1)) == 1).all().item<bool>());
  // The probabilities are those of all experts, as if there were no mask.
  EXPECT_TRUE(at::equal(routing.probabilities, router.forward(x).probabilities));
}

TEST_P(RouterOfFamily, AmongEqualExpertsDifferentOnesAreChosen) {
  OneRouter router(options());
  const Routing routing = router.forward(at::zeros({5, kHidden}));
  const at::Tensor sorted = std::get<0>(routing.topk_idx.sort(1));
  const at::Tensor gaps =
      sorted.narrow(1, 1, options().top_k - 1) - sorted.narrow(1, 0, options().top_k - 1);
  EXPECT_TRUE((gaps > 0).all().item<bool>()) << routing.topk_idx;
}

INSTANTIATE_TEST_SUITE_P(Families, RouterOfFamily, ::testing::ValuesIn(families()),
                         [](const auto& info) { return info.param.name; });

// Every token's logits are the given ones.
Routing route_logits(OneRouter& router, const std::vector<float>& logits,
                     const at::Tensor& mask = {}) {
  router.weight().zero_();
  router.weight().select(1, 0).copy_(at::tensor(logits));
  at::Tensor x = at::zeros({1, kHidden});
  x[0][0] = 1;
  return router.forward(x, mask);
}

std::vector<int64_t> sorted_choice(const Routing& routing) {
  const at::Tensor sorted = std::get<0>(routing.topk_idx[0].sort());
  return {sorted.data_ptr<int64_t>(), sorted.data_ptr<int64_t>() + sorted.numel()};
}

TEST(RouterTest, TheCorrectionBiasChoosesButDoesNotWeigh) {
  RouterOptions options{.top_k = 2, .scoring = RouterScoring::kSigmoid};
  options.correction_bias = true;
  OneRouter router(options);
  router.correction_bias().zero_();
  router.correction_bias()[9] = 5;
  std::vector<float> logits(kExperts, -1);
  logits[4] = 2;
  logits[9] = -3;
  const Routing routing = route_logits(router, logits);
  EXPECT_EQ(sorted_choice(routing), (std::vector<int64_t>{4, 9}));
  for (int64_t k = 0; k < 2; ++k) {
    const float logit = logits[routing.topk_idx[0][k].item<int64_t>()];
    EXPECT_NEAR(routing.topk_weights[0][k].item<double>(), 1 / (1 + std::exp(-logit)), 1e-6);
  }
}

TEST(RouterTest, OnlyTheBestGroupsTakePart) {
  RouterOptions options{.top_k = 3, .num_groups = 4, .topk_group = 1};
  std::vector<float> logits(kExperts, 0);
  logits[2] = 3;                          // group 0: the best expert
  logits[12] = logits[13] = 2.9f;         // group 3: the best two together
  logits[4] = logits[5] = logits[6] = 2;  // group 1: the best three together
  for (const auto& [group_best, first] : {std::pair{1, 0}, {2, 12}}) {
    options.group_best = group_best;
    OneRouter router(options);
    for (const int64_t expert : sorted_choice(route_logits(router, logits))) {
      EXPECT_GE(expert, first) << group_best;
      EXPECT_LT(expert, first + 4) << group_best;
    }
  }
}

// A masked expert must not make its group look worse than one that has none to offer.
TEST(RouterTest, AGroupWithOneExpertLeftIsBetterThanOneWithNone) {
  const RouterOptions options{.top_k = 1,
                              .scoring = RouterScoring::kSigmoid,
                              .num_groups = 4,
                              .topk_group = 1,
                              .group_best = 2};
  OneRouter router(options);
  at::Tensor mask = at::zeros({kExperts});
  mask[13] = 1;
  std::vector<float> logits(kExperts, 5);
  logits[13] = -20;
  EXPECT_EQ(sorted_choice(route_logits(router, logits, mask)), (std::vector<int64_t>{13}));
}

// Logits have no lower bound: an expert that may be chosen comes before all that may not.
TEST(RouterTest, MaskedExpertsAreNotChosenHoweverLowTheOthersLogitsAre) {
  OneRouter router({.top_k = 2, .scoring = RouterScoring::kSoftmaxChosen});
  at::Tensor mask = at::zeros({kExperts});
  mask[3] = mask[11] = 1;
  std::vector<float> logits(kExperts, 5);
  logits[3] = -1e4f;
  logits[11] = -2e4f;
  EXPECT_EQ(sorted_choice(route_logits(router, logits, mask)), (std::vector<int64_t>{3, 11}));
}

TEST(RouterTest, RenormalisedWeightsAddUpToOneBeforeTheScale) {
  at::manual_seed(5);
  for (const RouterScoring scoring : {RouterScoring::kSoftmax, RouterScoring::kSigmoid}) {
    OneRouter router({.top_k = 3, .scoring = scoring, .renormalize = true, .scale = 2.5});
    const Routing routing = router.forward(at::randn({20, kHidden}));
    const auto off = [](const at::Tensor& sums, double wanted) {
      return (sums.sum(1) - wanted).abs().max().item<double>();
    };
    EXPECT_LT(off(routing.unscaled, 1), 1e-6);
    EXPECT_LT(off(routing.topk_weights, 2.5), 1e-5);
  }
}

TEST(RouterTest, OfLogitsFarApartNothingOverflows) {
  std::vector<float> logits(kExperts, -1e4f);
  logits[3] = 1e4f;
  logits[7] = 9e3f;
  for (const Case& family : families()) {
    if (family.options.num_groups > 0) continue;
    OneRouter router(family.options);
    const Routing routing = route_logits(router, logits);
    EXPECT_TRUE(routing.topk_weights.isfinite().all().item<bool>()) << family.name;
    EXPECT_TRUE(routing.probabilities.isfinite().all().item<bool>()) << family.name;
  }
}

// Inputs whose products are exact in fp32, so that a logit is rounded at most once.
at::Tensor exact(int64_t rows) {
  return (at::randint(-16, 17, {rows, kHidden}).to(at::kFloat) / 16).to(at::kBFloat16);
}

TEST(RouterTest, InBf16LogitsAreRoundedUnlessTheFamilyTakesThemInFp32) {
  at::manual_seed(6);
  for (const bool fp32 : {false, true}) {
    OneRouter router({.top_k = 2, .fp32_logits = fp32}, at::kBFloat16);
    router.weight().copy_(exact(kExperts));
    const at::Tensor x = exact(30);
    at::Tensor logits = at::mm(x.to(at::kDouble), router.weight().to(at::kDouble).t());
    const at::Tensor rounded = logits.to(at::kBFloat16).to(at::kDouble);
    ASSERT_FALSE(at::equal(logits, rounded));
    if (!fp32) logits = rounded;
    const at::Tensor off = router.forward(x).probabilities - at::softmax(logits, 1);
    EXPECT_LT(off.abs().max().item<double>(), 1e-6) << fp32;
  }
}

TEST(RouterTest, InBf16WeightsAreRoundedUnlessTheFamilyKeepsThemInFp32) {
  at::manual_seed(7);
  for (const bool fp32 : {false, true}) {
    OneRouter router({.top_k = 4, .renormalize = true, .fp32_weights = fp32, .scale = 3},
                     at::kBFloat16);
    const Routing routing = router.forward(at::randn({30, kHidden}).to(at::kBFloat16));
    ASSERT_EQ(routing.unscaled.scalar_type(), at::kFloat);
    const at::Tensor rounded = routing.unscaled.to(at::kBFloat16).to(at::kFloat);
    EXPECT_EQ(at::equal(routing.unscaled, rounded), !fp32);
    EXPECT_TRUE(at::equal(routing.topk_weights, routing.unscaled * 3)) << "the scale comes last";
  }
}

}  // namespace
}  // namespace sutor
