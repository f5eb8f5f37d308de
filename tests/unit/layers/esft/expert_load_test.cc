// The figures of a layer's load, by hand.
#include "layers/esft/expert_load.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sutor {
namespace {

ExpertScores scores_of(const std::vector<int64_t>& counts, int64_t tokens, int top_k) {
  ExpertScores scores({4}, static_cast<int>(counts.size()), top_k);
  std::vector<int64_t> gates;
  for (const int64_t count : counts) gates.push_back(count * 100);
  scores.set_layer(4, counts, gates, tokens);
  return scores;
}

TEST(LayerLoad, IsThatOfPlainFormulas) {
  const LayerLoad load = layer_load(scores_of({6, 0, 1, 1}, 4, 2), 4);
  EXPECT_EQ(load.tokens, 4);
  EXPECT_EQ(load.busiest, 0);
  EXPECT_DOUBLE_EQ(load.max_over_mean, 3);
  EXPECT_DOUBLE_EQ(load.p95_over_mean, 3);
  EXPECT_DOUBLE_EQ(load.cv, std::sqrt((16 + 4 + 1 + 1) / 4.0) / 2);
  EXPECT_EQ(load.dead, std::vector<int>{1});
  const double entropy = -(0.75 * std::log(0.75) + 2 * 0.125 * std::log(0.125));
  EXPECT_DOUBLE_EQ(load.entropy, entropy / std::log(4.0));
}

TEST(LayerLoad, OfEvenUseIsEven) {
  const LayerLoad load = layer_load(scores_of(std::vector<int64_t>(100, 7), 350, 2), 4);
  EXPECT_DOUBLE_EQ(load.max_over_mean, 1);
  EXPECT_DOUBLE_EQ(load.p95_over_mean, 1);
  EXPECT_DOUBLE_EQ(load.cv, 0);
  EXPECT_NEAR(load.entropy, 1, 1e-12);
  EXPECT_TRUE(load.dead.empty());
}

TEST(LayerLoad, The95thPercentLeavesOutTheFiveBusiestOfAHundred) {
  std::vector<int64_t> counts(100, 10);
  for (int e = 0; e < 5; ++e) counts[static_cast<size_t>(e)] = 20;
  const double mean = (95 * 10 + 5 * 20) / 100.0;
  EXPECT_DOUBLE_EQ(layer_load(scores_of(counts, 1050, 1), 4).p95_over_mean, 10 / mean);
  counts[5] = 20;
  EXPECT_DOUBLE_EQ(layer_load(scores_of(counts, 1060, 1), 4).p95_over_mean, 20 / (mean + 0.1));
}

TEST(LayerLoad, OfALayerWithoutTokensIsAllDead) {
  const LayerLoad load = layer_load(scores_of({0, 0}, 0, 1), 4);
  EXPECT_EQ(load.max_over_mean, 0);
  EXPECT_EQ(load.dead.size(), 2u);
}

TEST(Traffic, CountsChoicesAndWeight) {
  const Traffic traffic = traffic_of(scores_of({6, 0, 1, 1}, 4, 2), 4, {2, 0});
  EXPECT_DOUBLE_EQ(traffic.share(), 7.0 / 8);
  EXPECT_DOUBLE_EQ(traffic.gate_share(), 700.0 / 800);
  EXPECT_EQ(Traffic().share(), 0);
}

}  // namespace
}  // namespace sutor
