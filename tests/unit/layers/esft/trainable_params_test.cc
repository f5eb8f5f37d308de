// The plan: what an expert config trains in each family, and how patterns change it.
#include "layers/esft/trainable_params.h"

#include <gtest/gtest.h>

#include "tests/support/message_of.h"
#include "tests/support/model_builders.h"

namespace sutor {
namespace {

using testing::deepseek_like;
using testing::message_of;
using testing::qwen_like;

ExpertConfig config_of(std::map<int, std::vector<int>> experts, bool shared = false,
                       bool others = false) {
  ExpertConfig config;
  config.experts = std::move(experts);
  config.shared_experts = shared;
  config.non_expert_modules = others;
  return config;
}

TEST(TrainableSet, AnExpertTrainsWithAllItsProjectionsInModelOrder) {
  const TrainableSet plan =
      trainable_set(deepseek_like(4, 1, 8), config_of({{2, {5, 1}}, {3, {}}}));
  EXPECT_EQ(plan.names(), (std::vector<std::string>{
                              "model.layers.2.mlp.experts.1.gate_proj.weight",
                              "model.layers.2.mlp.experts.1.up_proj.weight",
                              "model.layers.2.mlp.experts.1.down_proj.weight",
                              "model.layers.2.mlp.experts.5.gate_proj.weight",
                              "model.layers.2.mlp.experts.5.up_proj.weight",
                              "model.layers.2.mlp.experts.5.down_proj.weight",
                          }));
  EXPECT_EQ(plan.experts(), (std::map<int, std::vector<int>>{{2, {1, 5}}}));
  EXPECT_TRUE(plan.only_routed_experts());
  EXPECT_EQ(plan.num_parameters(), 6 * 32);
  EXPECT_EQ(plan.lowest_layer(), 2);
}

TEST(TrainableSet, SharedExpertsMeansThoseOfEveryLayer) {
  const TrainableSet plan = trainable_set(deepseek_like(4, 1, 8), config_of({}, true));
  EXPECT_EQ(plan.names().size(), 9U);
  EXPECT_TRUE(plan.contains("model.layers.3.mlp.shared_experts.up_proj.weight"));
  EXPECT_FALSE(plan.only_routed_experts());
  EXPECT_EQ(plan.lowest_layer(), 1);
}

TEST(TrainableSet, NonExpertModulesIsAllThatIsNoExpertRouterIncluded) {
  const ModelInfo model = deepseek_like(3, 1, 4);
  const TrainableSet plan = trainable_set(model, config_of({{1, {0}}}, false, true));
  for (const TensorEntry& tensor : model.tensors.entries()) {
    const bool expected = tensor.role == TensorRole::kRoutedExpert
                              ? tensor.layer == 1 && tensor.expert == 0
                              : tensor.role != TensorRole::kSharedExpert;
    EXPECT_EQ(plan.contains(tensor.name), expected) << tensor.name;
  }
  EXPECT_TRUE(plan.contains("model.layers.2.mlp.gate.weight"));
  EXPECT_EQ(plan.lowest_layer(), -1);
}

TEST(TrainableSet, HeadAloneNeedsNoBackwardThroughTheLayers) {
  const TrainableSet plan =
      trainable_set(qwen_like(2, 4), config_of({}), {.also_train = {"lm_head\\.weight"}});
  EXPECT_EQ(plan.lowest_layer(), 2);
}

TEST(TrainableSet, PatternsAddAndExempt) {
  const ModelInfo model = qwen_like(3, 4);
  const TrainableSet plan =
      trainable_set(model, config_of({{0, {1}}}, false, true),
                    {.also_train = {"model\\.layers\\.2\\.mlp\\.experts\\.3\\..*"},
                     .keep_frozen = {".*mlp\\.gate\\.weight", "model\\.embed_tokens\\.weight"}});
  EXPECT_FALSE(plan.contains("model.layers.1.mlp.gate.weight"));
  EXPECT_FALSE(plan.contains("model.embed_tokens.weight"));
  EXPECT_TRUE(plan.contains("model.layers.1.self_attn.q_proj.weight"));
  EXPECT_EQ(plan.experts(), (std::map<int, std::vector<int>>{{0, {1}}, {2, {3}}}));
}

TEST(TrainableSet, PatternsThatCannotBeMeantAreRefused) {
  const ModelInfo model = qwen_like(2, 4);
  const ExpertConfig config = config_of({{0, {1}}});
  const auto refuse = [&](TrainablePatterns patterns, ErrorCode code) {
    return message_of([&] { trainable_set(model, config, patterns); }, code);
  };
  // A part of a name is no match: full names only.
  EXPECT_NE(
      refuse({.also_train = {"mlp.gate"}}, ErrorCode::kBadPattern).find("matches no parameter"),
      std::string::npos);
  refuse({.keep_frozen = {"nothing"}}, ErrorCode::kBadPattern);
  EXPECT_NE(refuse({.also_train = {"("}}, ErrorCode::kBadPattern).find("no regular expression"),
            std::string::npos);
  EXPECT_NE(refuse({.also_train = {".*experts\\.2\\.up_proj\\.weight"}}, ErrorCode::kDividedExpert)
                .find("1 of its 3"),
            std::string::npos);
  EXPECT_NE(
      refuse({.keep_frozen = {".*experts\\.1\\..*"}}, ErrorCode::kDividedExpert).find("expert 1"),
      std::string::npos);
}

TEST(TrainableSet, NothingToTrainIsAnError) {
  const ModelInfo model = qwen_like(2, 4);
  message_of([&] { trainable_set(model, config_of({})); }, ErrorCode::kNothingTrains);
  message_of([&] { trainable_set(model, config_of({}, true)); },
             ErrorCode::kNothingTrains);  // Qwen3 has no shared experts
  message_of([&] { full_trainable_set(model, {.keep_frozen = {".*"}}); },
             ErrorCode::kNothingTrains);
}

TEST(TrainableSet, FullTrainsEveryTensor) {
  const ModelInfo model = deepseek_like(3, 1, 4);
  EXPECT_EQ(full_trainable_set(model).names().size(), model.tensors.size());
  const TrainableSet but = full_trainable_set(model, {.keep_frozen = {"lm_head\\.weight"}});
  EXPECT_EQ(but.names().size(), model.tensors.size() - 1);
}

}  // namespace
}  // namespace sutor
