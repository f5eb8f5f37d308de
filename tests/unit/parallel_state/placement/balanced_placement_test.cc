// Balanced placement: the published routing of two tasks, its constraints, and small optima.
#include "parallel_state/placement/balanced_placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "parallel_state/model/expert_config.h"
#include "tests/support/expect_error.h"

namespace sutor {
namespace {

using testing::expect_error;

const std::filesystem::path kGolden = SUTOR_TEST_DATA "/golden/esft";

// The layers of a published task: which experts train, and the load in one half of its tokens.
std::map<int, LayerLoad> published(const std::string& task, int half) {
  const auto json = nlohmann::json::parse(std::ifstream(kGolden / "halves.json"));
  std::map<int, LayerLoad> layers;
  for (const auto& [layer, halves] : json.at(task).items()) {
    const auto counts = halves[half].get<std::vector<double>>();
    layers[std::stoi(layer)] = {counts, std::vector<bool>(counts.size(), false)};
  }
  for (const auto& [layer, experts] : read_expert_config(kGolden / (task + ".config.json")).experts)
    for (const int expert : experts) layers.at(layer).trainable[expert] = true;
  return layers;
}

LayerLoad random_layer(int experts, int trainable, uint64_t seed) {
  std::mt19937_64 random(seed);
  LayerLoad layer{{}, std::vector<bool>(static_cast<size_t>(experts), false)};
  for (int e = 0; e < experts; ++e) {
    const double x = static_cast<double>(random() % 1000) / 1000;
    layer.load.push_back(0.01 + x * x * x);
  }
  for (int i = 0; i < trainable; ++i)
    layer.trainable[random() % static_cast<uint64_t>(experts)] = true;
  return layer;
}

std::vector<int> per_rank(const LayerPlacement& placement, int ep, const std::vector<bool>* of) {
  std::vector<int> counts(static_cast<size_t>(ep), 0);
  for (size_t e = 0; e < placement.rank_of.size(); ++e) {
    if (!of || (*of)[e]) ++counts[placement.rank_of[e]];
  }
  return counts;
}

int spread(const std::vector<int>& counts) {
  return *std::max_element(counts.begin(), counts.end()) -
         *std::min_element(counts.begin(), counts.end());
}

TEST(BalancedPlacement, ChosenOnHalfThePublishedTokensItEvensTheOtherHalf) {
  struct Bound {
    int ep;
    double contiguous_above, balanced_below;
  };
  for (const char* task : {"intent", "summary"}) {
    const auto first = published(task, 0), second = published(task, 1);
    ASSERT_EQ(second.size(), 26U);
    for (const auto& [ep, above, below] : {Bound{4, 1.25, 1.07}, Bound{8, 1.55, 1.21}}) {
      std::map<int, LayerPlacement> contiguous;
      for (const auto& [number, layer] : second) contiguous[number] = contiguous_layer(64, ep);
      EXPECT_GT(critical_path(second, contiguous, ep), above) << task << ep;
      EXPECT_LE(critical_path(second, balanced_layers(first, ep), ep), below) << task << ep;
    }
    // Which experts have copies is chosen on the first half; their tokens are dealt out as they
    // come.
    EXPECT_LE(critical_path(second, balanced_layers(first, 8, 16), 8), 1.05) << task;
  }
}

TEST(BalancedPlacement, ExpertsAreEquallyManyAndTrainedOnesEvenOverLayersAndModel) {
  for (const int ep : {1, 2, 4, 8, 16}) {
    std::map<int, LayerLoad> layers;
    for (int number = 0; number < 9; ++number) {
      layers[number] = random_layer(32, 3 * number, static_cast<uint64_t>(number));
    }
    std::vector<int> trainable_of_rank(static_cast<size_t>(ep), 0);
    for (const auto& [number, placement] : balanced_layers(layers, ep, 4)) {
      const LayerLoad& layer = layers.at(number);
      EXPECT_EQ(spread(per_rank(placement, ep, nullptr)), 0);
      const std::vector<int> trainable = per_rank(placement, ep, &layer.trainable);
      EXPECT_LE(spread(trainable), 1);
      for (int r = 0; r < ep; ++r) trainable_of_rank[r] += trainable[r];
      for (const int e : placement.replicated) EXPECT_FALSE(layer.trainable[e]);
      EXPECT_TRUE(std::is_sorted(placement.replicated.begin(), placement.replicated.end()));
    }
    EXPECT_LE(spread(trainable_of_rank), 1);
  }
}

// The best critical path of all placements that give both ranks as many experts and, up to one, as
// many trained ones.
double optimum_on_two_ranks(const LayerLoad& layer) {
  double best = 1e9;
  const int experts = layer.num_experts();
  for (unsigned bits = 0; bits < 1U << experts; ++bits) {
    LayerPlacement placement;
    for (int e = 0; e < experts; ++e) placement.rank_of.push_back(bits >> e & 1U);
    if (spread(per_rank(placement, 2, nullptr)) != 0) continue;
    if (spread(per_rank(placement, 2, &layer.trainable)) > 1) continue;
    best = std::min(best, critical_path({{0, layer}}, {{0, placement}}, 2));
  }
  return best;
}

TEST(BalancedPlacement, IsCloseToTheOptimumOfSmallLayersAndNeverBehindContiguous) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const LayerLoad layer = random_layer(10, static_cast<int>(seed % 6), seed);
    const double found = critical_path({{0, layer}}, {{0, balanced_layer(layer, 2)}}, 2);
    EXPECT_LE(found, 1.12 * optimum_on_two_ranks(layer)) << seed;
    if (std::none_of(layer.trainable.begin(), layer.trainable.end(), [](bool t) { return t; })) {
      EXPECT_LE(found, critical_path({{0, layer}}, {{0, contiguous_layer(10, 2)}}, 2)) << seed;
    }
  }
}

TEST(BalancedPlacement, ReplicasFillTheRanksThatHaveLessToDo) {
  const LayerLoad layer{{4, 1, 1, 2}, {false, false, false, false}};
  const LayerPlacement placement{{0, 0, 1, 1}, {0, 3}};
  // Owned they cost 2 and 2; the 12 of the replicated ones make both level.
  EXPECT_EQ(rank_costs(layer, placement, 2), (std::vector<double>{8, 8}));
  const LayerLoad steep{{1, 9, 1, 1}, {false, true, false, false}};
  EXPECT_EQ(rank_costs(steep, {{0, 0, 1, 1}, {0}}, 2), (std::vector<double>{27, 6}));
}

TEST(BalancedPlacement, RouterGroupsStayTogether) {
  const LayerLoad layer = random_layer(32, 6, 1);
  const LayerPlacement whole = balanced_layer(layer, 4, 0, 8);  // two groups of 4 a rank
  for (int e = 0; e < 32; ++e) EXPECT_EQ(whole.rank_of[e], whole.rank_of[e / 4 * 4]);
  EXPECT_EQ(spread(per_rank(whole, 4, nullptr)), 0);
  const LayerPlacement within = balanced_layer(layer, 8, 0, 4);  // two ranks for a group of 8
  for (int e = 0; e < 32; ++e) EXPECT_EQ(within.rank_of[e] / 2, e / 8);
  EXPECT_EQ(spread(per_rank(within, 8, nullptr)), 0);
  expect_error(ErrorCode::kBadPlacement, {"groups", "contiguous"},
               [&] { balanced_layer(layer, 4, 0, 32 / 3); });
  expect_error(ErrorCode::kBadPlacement, {"parallel.ep=5"}, [&] { balanced_layer(layer, 5); });
}

TEST(BalancedPlacement, SharesOfReplicasMakeTheRanksLevelAndAddUpToOne) {
  for (const uint64_t seed : {1, 2, 3}) {
    const LayerLoad layer = random_layer(32, 6, seed);
    LayerPlacement placement = contiguous_layer(32, 4);
    const std::vector<double> without = rank_costs(layer, placement, 4);
    add_replicas(layer, 8, placement);
    ASSERT_EQ(placement.replicated.size(), 8U);
    const auto shares = replica_shares(placement, layer.load, 4);
    std::vector<double> assigned(4, 0);
    for (int e = 0; e < 32; ++e) {
      const auto& all = placement.replicated;
      const auto at = std::lower_bound(all.begin(), all.end(), e);
      if (at == all.end() || *at != e) {
        assigned[placement.rank_of[e]] += layer.cost(e);
        continue;
      }
      const std::vector<double>& of_expert = shares[static_cast<size_t>(at - all.begin())];
      EXPECT_FALSE(layer.trainable[e]);
      EXPECT_NEAR(std::accumulate(of_expert.begin(), of_expert.end(), 0.0), 1, 1e-9);
      for (int r = 0; r < 4; ++r) {
        EXPECT_GE(of_expert[r], -1e-9);
        assigned[r] += of_expert[r] * layer.cost(e);
      }
    }
    const auto level = rank_costs(layer, placement, 4);
    for (int r = 0; r < 4; ++r) EXPECT_NEAR(assigned[r], level[r], 1e-6 * level[r]);
    EXPECT_LE(*std::max_element(assigned.begin(), assigned.end()),
              *std::max_element(without.begin(), without.end()));
  }
}

TEST(BalancedPlacement, CopiesHaveLocalNumbersBehindTheOwnedExperts) {
  LayerPlacement layer = contiguous_layer(8, 2);
  layer.replicated = {1, 6};
  const ExpertPlacement placement(8, 2, 0, {{3, layer}});
  EXPECT_EQ(placement.local_experts(3, 0), (std::vector<int>{0, 1, 2, 3, 6}));
  EXPECT_EQ(placement.local_experts(3, 1), (std::vector<int>{4, 5, 6, 7, 1}));
  EXPECT_EQ(placement.local_experts(2, 1), (std::vector<int>{4, 5, 6, 7}));
  EXPECT_EQ(placement.local_numbers(), 5);
  EXPECT_EQ(placement.local_id_on(3, 6, 0), 4);
  EXPECT_EQ(placement.local_id_on(3, 6, 1), 2);
  EXPECT_EQ(placement.ep_rank_of(3, 6), 1);
  EXPECT_TRUE(placement.is_replicated(3, 1));
  EXPECT_FALSE(placement.is_replicated(3, 0));
  EXPECT_EQ(placement.with_replicas(2), nullptr);
}

}  // namespace
}  // namespace sutor
