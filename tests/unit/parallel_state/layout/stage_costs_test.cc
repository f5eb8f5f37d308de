// Stages by cost: what layers cost, and the split against trying all splits.
#include "parallel_state/layout/stage_costs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/support/message_of.h"
#include "tests/support/model_builders.h"

namespace sutor {
namespace {

using testing::deepseek_like;
using testing::message_of;
using testing::qwen_like;

const Trains kNothing = [](const TensorEntry&) { return false; };
const Trains kEverything = [](const TensorEntry&) { return true; };

Trains routed_experts_from(int layer) {
  return [layer](const TensorEntry& entry) {
    return entry.role == TensorRole::kRoutedExpert && entry.layer >= layer && entry.expert == 0;
  };
}

StageCosts layers_of(std::vector<double> costs) { return {std::move(costs), 0, 0}; }

double costliest(const StageCosts& costs, const std::vector<int>& layers) {
  const std::vector<double> stages = costs_of_stages(costs, layers);
  return *std::max_element(stages.begin(), stages.end());
}

using Counts = std::vector<int>;

TEST(BalancedStages, EqualLayersAreSplitAsEvenDoes) {
  const StageCosts costs = layers_of(std::vector<double>(27, 0.1));
  for (const int stages : {1, 2, 4, 8, 27}) {
    const StageMap even(27, stages);
    const Counts counts = balanced_stages(costs, stages);
    for (int s = 0; s < stages; ++s) EXPECT_EQ(counts[s], even.layers_of(s)) << stages;
  }
}

TEST(BalancedStages, AFrozenLowerHalfGetsMoreLayersAStage) {
  std::vector<double> layers(13, 1);
  layers.resize(27, 3);
  const StageCosts costs = layers_of(layers);                   // 13 + 42 = 55
  EXPECT_EQ(balanced_stages(costs, 2), (Counts{18, 9}));        // 28 and 27
  EXPECT_EQ(balanced_stages(costs, 4), (Counts{13, 5, 5, 4}));  // 13, 15, 15, 12
  // Three trained layers a stage are the least here, so the frozen ones need not be spread thinner.
  const Counts eight = balanced_stages(costs, 8);
  EXPECT_EQ(costliest(costs, eight), 9);
  EXPECT_GT(eight.front(), eight.back());
  for (const int stages : {2, 4}) {
    const StageMap even(27, stages);
    Counts counts;
    for (int s = 0; s < stages; ++s) counts.push_back(even.layers_of(s));
    EXPECT_LT(costliest(costs, balanced_stages(costs, stages)), costliest(costs, counts));
  }
}

TEST(BalancedStages, EmbeddingAndHeadMakeTheirStagesShorter) {
  StageCosts costs = layers_of(std::vector<double>(12, 1));
  costs.head = 3;
  EXPECT_EQ(balanced_stages(costs, 3), (Counts{5, 5, 2}));
  costs.embedding = 3;
  EXPECT_EQ(balanced_stages(costs, 3), (Counts{3, 6, 3}));
}

// Calls `visit` with every way of giving each stage at least one layer.
template <typename Visit>
void for_all_splits(int layers, int stages, Counts& counts, const Visit& visit) {
  if (stages == 1) {
    counts.push_back(layers);
    visit(counts);
    counts.pop_back();
    return;
  }
  for (int n = 1; n <= layers - stages + 1; ++n) {
    counts.push_back(n);
    for_all_splits(layers - n, stages - 1, counts, visit);
    counts.pop_back();
  }
}

TEST(BalancedStages, AreTheBestOfAllSplits) {
  std::mt19937 random(7);
  for (int layers = 1; layers <= 11; ++layers) {
    for (int stages = 1; stages <= layers; ++stages) {
      StageCosts costs;
      for (int l = 0; l < layers; ++l) costs.layers.push_back(static_cast<double>(random() % 4));
      costs.embedding = static_cast<double>(random() % 3);
      costs.head = static_cast<double>(random() % 6);
      // Largest cost, then sum of squares, then earlier stages with more: small whole numbers are
      // exact.
      std::tuple<double, double, Counts> best{1e30, 0, {}};
      Counts counts;
      for_all_splits(layers, stages, counts, [&](const Counts& split) {
        double squares = 0;
        for (const double cost : costs_of_stages(costs, split)) squares += cost * cost;
        Counts fewer_first;
        for (const int n : split) fewer_first.push_back(-n);
        best = std::min(best, {costliest(costs, split), squares, fewer_first});
      });
      Counts expected;
      for (const int n : std::get<2>(best)) expected.push_back(-n);
      ASSERT_EQ(balanced_stages(costs, stages), expected) << layers << " on " << stages;
    }
  }
}

TEST(BalancedStages, LargeModelsTakeNoTime) {
  const StageCosts costs = layers_of(std::vector<double>(256, 1e10));
  EXPECT_EQ(balanced_stages(costs, 64), Counts(64, 4));
}

// The tensors of the small models have 32 elements each, 2 of 4 experts are active.
TEST(StageCosts, CountWhatATokenMeets) {
  const ModelInfo model = qwen_like(3, 4);  // a layer: 8 dense tensors and the router; 12 experts'
  const double layer = 9 * 32 + 12 * 32 / 2.0, head = 32 * 8, loss = 3 * 32, norm = 32;
  const StageCosts none = stage_costs(model, kNothing);
  EXPECT_EQ(none.layers, std::vector<double>(3, layer));
  EXPECT_EQ(none.embedding, 8);
  EXPECT_EQ(none.head, head + loss + norm);
  // Experts of layer 1: their weight gradients, the input gradient from there on.
  const StageCosts some = stage_costs(
      model, [](const TensorEntry& entry) { return entry.layer == 1 && entry.expert == 0; });
  EXPECT_EQ(some.layers, (std::vector<double>{layer, 2 * layer + 3 * 32 / 2.0, 2 * layer}));
  EXPECT_EQ(some.head, 2 * head + loss + 2 * norm);
  EXPECT_EQ(stage_costs(model, kEverything).layers, std::vector<double>(3, 3 * layer));
  EXPECT_EQ(stage_costs(model, kEverything).head, 3 * head + loss + 3 * norm);
  EXPECT_EQ(stage_costs(model, kEverything, 0.5).head, 1.5 * head + 0.5 * loss + 3 * norm);
}

TEST(StageCosts, AHeadThatTrainsAloneNeedsNoInputGradient) {
  const ModelInfo model = qwen_like(2, 4);
  const StageCosts costs =
      stage_costs(model, [](const TensorEntry& entry) { return entry.role == TensorRole::kHead; });
  EXPECT_EQ(costs.layers, stage_costs(model, kNothing).layers);
  EXPECT_EQ(costs.head, 2 * 32 * 8 + 3 * 32 + 2 * 32);
}

TEST(StageCosts, ATiedEmbeddingThatTrainsMakesAllLayersGoBackward) {
  const ModelInfo model = qwen_like(2, 4, /*tied=*/true);
  const StageCosts frozen = stage_costs(model, kNothing);
  const StageCosts costs = stage_costs(
      model, [](const TensorEntry& entry) { return entry.role == TensorRole::kEmbedding; });
  EXPECT_EQ(costs.layers[0], 2 * frozen.layers[0]);
  EXPECT_EQ(costs.head, 3 * 32 * 8 + 3 * 32 + 2 * 32);
}

TEST(MakeStageMap, AutoGivesTheFrozenHalfMoreLayers) {
  const ModelInfo model = deepseek_like(27, 1, 8);
  for (const int stages : {2, 4, 8}) {
    const StageMap map = make_stage_map(model, stages, "auto", routed_experts_from(14));
    EXPECT_EQ(map.num_layers(), 27);
    EXPECT_EQ(map.num_stages(), stages);
    EXPECT_GT(map.layers_of(0), StageMap(27, stages).layers_of(0)) << stages;
  }
}

TEST(MakeStageMap, AutoWithoutTrainingSplitsByTheForwardAlone) {
  const ModelInfo model = deepseek_like(27, 1, 8);
  for (const int stages : {2, 4, 8}) {
    const StageMap map = make_stage_map(model, stages, "auto", kNothing);
    for (int s = 0; s < stages; ++s) {
      EXPECT_NEAR(map.layers_of(s), 27.0 / stages, 1.0) << s << " of " << stages;
    }
  }
}

TEST(MakeStageMap, OtherValuesAreThoseOfStageMap) {
  const ModelInfo model = qwen_like(8, 4);
  EXPECT_EQ(make_stage_map(model, 3, "even", kNothing).layers_of(0), 3);
  EXPECT_EQ(make_stage_map(model, 3, "1,4,3", kNothing).layers_of(1), 4);
  EXPECT_EQ(make_stage_map(model, 1, "auto", kNothing).layers_of(0), 8);
  message_of([&] { make_stage_map(model, 9, "auto", kNothing); }, ErrorCode::kBadLayout);
}

}  // namespace
}  // namespace sutor
