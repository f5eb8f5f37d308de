// Score sums: exact, independent of order, of batches and of ranks.
#include "layers/esft/expert_scores.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "tests/support/message_of.h"

namespace sutor {
namespace {

using testing::message_of;

TEST(ExpertScores, TokenScoreIsTheShareOfSelectionsAndGateScoreTheWeightAToken) {
  ExpertScores scores({3}, 4, 2);
  const std::vector<int64_t> idx = {0, 1, 0, 3};
  const std::vector<float> weights = {0.5F, 0.25F, 0.125F, 0.25F};
  scores.add(3, idx, weights, 2);
  EXPECT_EQ(scores.num_tokens(), 2);
  EXPECT_DOUBLE_EQ(scores.token_score(3, 0), 0.5);
  EXPECT_DOUBLE_EQ(scores.token_score(3, 2), 0);
  EXPECT_DOUBLE_EQ(scores.gate_score(3, 0), 0.3125);
  EXPECT_DOUBLE_EQ(scores.gate_score(3, 3), 0.125);
}

TEST(ExpertScores, OrderBatchesAndRanksMakeNoDifference) {
  constexpr int kTokens = 1000, kTopK = 3, kExperts = 16;
  std::mt19937 random(1);
  std::uniform_real_distribution<float> weight(0, 1);
  std::vector<std::vector<int64_t>> idx(kTokens);
  std::vector<std::vector<float>> weights(kTokens);
  for (int t = 0; t < kTokens; ++t) {
    for (int k = 0; k < kTopK; ++k) {
      idx[t].push_back(static_cast<int64_t>((random() % 5) * 3 + k));
      weights[t].push_back(weight(random));
    }
  }
  ExpertScores forward({0}, kExperts, kTopK), left({0}, kExperts, kTopK),
      right({0}, kExperts, kTopK);
  for (int t = 0; t < kTokens; ++t) forward.add(0, idx[t], weights[t], kTopK);
  for (int t = kTokens - 1; t >= 0; --t) {
    (random() % 3 == 0 ? left : right).add(0, idx[t], weights[t], kTopK);
  }
  left.merge(right);
  EXPECT_TRUE(std::equal(forward.flat().begin(), forward.flat().end(), left.flat().begin()));
  // The fixed point is within one rounding a token of the exact mean.
  double exact = 0;
  for (int t = 0; t < kTokens; ++t) {
    for (int k = 0; k < kTopK; ++k) exact += idx[t][k] == 0 ? double{weights[t][k]} : 0.0;
  }
  EXPECT_NEAR(forward.gate_score(0, 0), exact / kTokens, 1e-9);
}

TEST(ExpertScores, TenBillionTokensOfWeightOneFit) {
  ExpertScores scores({0}, 1, 1);
  const int64_t tokens = 10'000'000'000;
  const int64_t sum = tokens << ExpertScores::kGateFractionBits;
  EXPECT_EQ(sum >> ExpertScores::kGateFractionBits, tokens);  // no overflow
  scores.set_layer(0, std::vector<int64_t>{tokens}, std::vector<int64_t>{sum}, tokens);
  EXPECT_DOUBLE_EQ(scores.token_score(0, 0), 1);
  EXPECT_DOUBLE_EQ(scores.gate_score(0, 0), 1);
}

TEST(ExpertScores, ALayerWithoutTokensScoresZero) {
  const ExpertScores scores({1, 2}, 3, 1);
  EXPECT_EQ(scores.token_score(2, 1), 0);
  EXPECT_EQ(scores.gate_score(2, 1), 0);
}

TEST(ExpertScores, BrokenRouterOutputsAreRefused) {
  ExpertScores scores({5}, 4, 1);
  const auto refuse = [&](int64_t id, float weight) {
    return message_of([&] { scores.add(5, std::vector{id}, std::vector{weight}, 1); },
                      ErrorCode::kBadRouting);
  };
  EXPECT_NE(refuse(4, 0.5F).find("expert 4"), std::string::npos);
  refuse(-1, 0.5F);
  refuse(0, -0.1F);
  refuse(0, 1.5F);
  EXPECT_NE(refuse(0, std::numeric_limits<float>::quiet_NaN()).find("finite"), std::string::npos);
  message_of([&] { scores.token_score(6, 0); }, ErrorCode::kIncompleteScores);
}

TEST(ExpertScores, ScoresOfOtherShapesAreNotAdded) {
  ExpertScores scores({1}, 4, 2);
  message_of([&] { scores.merge(ExpertScores({2}, 4, 2)); }, ErrorCode::kOtherScores);
  message_of([&] { scores.merge(ExpertScores({1}, 8, 2)); }, ErrorCode::kOtherScores);
  message_of([&] { scores.merge(ExpertScores({1}, 4, 1)); }, ErrorCode::kOtherScores);
}

}  // namespace
}  // namespace sutor
