// Selection: the published configs come out of the published scores, and each method keeps its
// word.
#include "layers/esft/select_experts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "layers/esft/score_records.h"
#include "tests/support/expect_error.h"
#include "tests/support/message_of.h"

namespace sutor {
namespace {

using testing::expect_error;
using testing::message_of;

const std::filesystem::path kGolden = SUTOR_TEST_DATA "/golden/esft";

SelectOptions method(const std::string& name) {
  SelectOptions options;
  options.method = name;
  return options;
}

ScoreTable small_table() {
  ScoreTable table;
  table.num_experts = 4;
  table.token = {{1, {0.1, 0.4, 0.1, 0.4}}, {2, {0.7, 0.1, 0.1, 0.1}}};
  table.gate = {{1, {0.01, 0.05, 0.02, 0.04}}, {2, {0.2, 0.0, 0.0, 0.0}}};
  return table;
}

std::vector<int> sorted(std::vector<int> ids) {
  std::sort(ids.begin(), ids.end());
  return ids;
}

TEST(Select, ReproducesThePublishedConfigsOrderIncluded) {
  const struct {
    const char* name;
    size_t layers;
  } published[] = {{"intent", 26}, {"summary", 26}, {"qwen3_coder", 48}};
  for (const auto& [name, layers] : published) {
    const ScoreTable scores = read_score_table(kGolden / (std::string(name) + ".scores.json"));
    const ExpertConfig expected =
        read_expert_config(kGolden / (std::string(name) + ".config.json"));
    const Selection selection = select_experts({}, scores);
    EXPECT_EQ(selection.config.experts.size(), layers);
    EXPECT_EQ(selection.config.experts, expected.experts) << name;
    EXPECT_EQ(to_json(selection.config), to_json(expected)) << name;
  }
}

TEST(Select, EqualRoundedScoresKeepTheOrderOfTheIds) {
  ScoreTable table;
  table.num_experts = 3;
  table.token = {{0, {0.30001, 0.30004, 0.39995}}};  // the first two round to the same
  SelectOptions options = method("token");
  options.top_p = 0.71;
  EXPECT_EQ(select_experts(options, table).config.experts.at(0), (std::vector<int>{2, 0, 1}));
  options.top_p = 0.6;
  EXPECT_EQ(select_experts(options, table).config.experts.at(0), (std::vector<int>{2, 0}));
}

TEST(Select, TheDefaultShareIsOneFifthOfTokensAndOneTenthOfGates) {
  const Selection token = select_experts(method("token"), small_table());
  EXPECT_EQ(token.top_p, 0.2);
  EXPECT_EQ(token.config.experts.at(1), (std::vector<int>{1}));
  const Selection gate = select_experts(method("gate"), small_table());
  EXPECT_EQ(gate.top_p, 0.1);
  EXPECT_EQ(gate.config.experts.at(1), (std::vector<int>{1, 3, 2}));
  EXPECT_EQ(gate.config.experts.at(2), (std::vector<int>{0}));
  EXPECT_NEAR(gate.layers[0].share, 0.11, 1e-12);
}

TEST(Select, ScoresThatDoNotReachTheShareTakeEveryExpertAndSaySo) {
  SelectOptions options = method("gate");
  options.top_p = 0.5;
  const Selection selection = select_experts(options, small_table());
  EXPECT_EQ(selection.config.num_experts(), 8);
  EXPECT_TRUE(selection.layers[0].all);
}

TEST(Select, TopNTakesTheBestOfEachLayer) {
  SelectOptions options = method("top_n");
  options.n = 2;
  const ExpertConfig config = select_experts(options, small_table()).config;
  EXPECT_EQ(config.experts.at(1), (std::vector<int>{1, 3}));
  EXPECT_EQ(config.experts.at(2), (std::vector<int>{0, 1}));
}

TEST(Select, TopNAndBudgetRankByTheGateScoreWhenAsked) {
  SelectOptions options = method("top_n");
  options.n = 2;
  options.rank_by = "gate";
  ScoreTable scores = small_table();
  scores.gate = {{1, {0.1, 0.2, 0.3, 0.4}}, {2, {0.4, 0.3, 0.2, 0.1}}};
  EXPECT_EQ(select_experts(options, scores).config.experts.at(1), (std::vector<int>{3, 2}));
  options.method = "budget";
  options.budget = 0.25;
  EXPECT_EQ(select_experts(options, scores).config.experts.at(2), (std::vector<int>{0}));
  options.rank_by = "load";
  expect_error(ErrorCode::kBadSelection, {"rank_by"}, [&] { select_experts(options, scores); });
  options.rank_by = "gate";
  scores.gate.clear();
  expect_error(ErrorCode::kIncompleteScores, {"no gate scores"},
               [&] { select_experts(options, scores); });
}

TEST(Select, RandomDrawsAsManyAsTokenWouldTakeAndRepeatsForItsSeed) {
  const ScoreTable scores = read_score_table(kGolden / "intent.scores.json");
  const ExpertConfig token = select_experts(method("token"), scores).config;
  SelectOptions options = method("random");
  const ExpertConfig first = select_experts(options, scores).config;
  EXPECT_EQ(first.experts, select_experts(options, scores).config.experts);
  for (const auto& [layer, ids] : first.experts) {
    EXPECT_EQ(ids.size(), token.experts.at(layer).size());
    EXPECT_EQ(std::set<int>(ids.begin(), ids.end()).size(), ids.size());
    EXPECT_LT(*std::max_element(ids.begin(), ids.end()), 64);
  }
  EXPECT_NE(first.experts, token.experts);
  options.seed = 1;
  EXPECT_NE(first.experts, select_experts(options, scores).config.experts);
  options.n = 64;
  const std::vector<int> all = sorted(select_experts(options, scores).config.experts.at(5));
  EXPECT_EQ(all.front(), 0);
  EXPECT_EQ(all.size(), 64U);
}

TEST(Select, RandomDrawsALayerOnItsOwn) {
  // So restricting the layers does not change what is drawn for the others.
  const ScoreTable scores = read_score_table(kGolden / "intent.scores.json");
  SelectOptions options = method("random");
  const ExpertConfig all = select_experts(options, scores).config;
  options.layers = {{7}};
  EXPECT_EQ(select_experts(options, scores).config.experts.at(7), all.experts.at(7));
}

TEST(Select, EveryExpertIsDrawnAboutEquallyOften) {
  ScoreTable table;
  table.num_experts = 8;
  table.token[0] = std::vector<double>(8, 0.125);
  std::vector<int> drawn(8, 0);
  for (uint64_t seed = 0; seed < 4000; ++seed) {
    SelectOptions options = method("random");
    options.n = 2;
    options.seed = seed;
    const ExpertConfig config = select_experts(options, table).config;
    for (int id : config.experts.at(0)) ++drawn[id];
  }
  for (int count : drawn) EXPECT_NEAR(count, 1000, 130);  // more than 4 standard deviations
}

TEST(Select, BudgetSpendsTheShareOnTheBestScoresOverAllLayers) {
  SelectOptions options = method("budget");
  options.budget = 0.375;  // 3 of 8
  const ExpertConfig config = select_experts(options, small_table()).config;
  EXPECT_EQ(config.experts.at(1), (std::vector<int>{1, 3}));
  EXPECT_EQ(config.experts.at(2), (std::vector<int>{0}));
  options.min_per_layer = 0;
  options.budget = 0.125;
  const ExpertConfig one = select_experts(options, small_table()).config;
  EXPECT_EQ(one.experts.size(), 1U);
  EXPECT_EQ(one.experts.at(2), (std::vector<int>{0}));
  options.min_per_layer = 2;  // more than the budget: the layers' minimum holds
  EXPECT_EQ(select_experts(options, small_table()).config.num_experts(), 4);
}

TEST(Select, OnlyTheLayersAskedFor) {
  SelectOptions options = method("token");
  options.layers = {{2}};
  const ExpertConfig config = select_experts(options, small_table()).config;
  EXPECT_EQ(config.experts.size(), 1U);
  EXPECT_TRUE(config.experts.count(2));
  options.layers = {{2, 9}};
  EXPECT_NE(
      message_of([&] { select_experts(options, small_table()); }, ErrorCode::kIncompleteScores)
          .find("layer 9"),
      std::string::npos);
}

TEST(Select, FlagsGoIntoTheConfig) {
  SelectOptions options = method("token");
  options.shared_experts = true;
  options.non_expert_modules = true;
  const ExpertConfig config = select_experts(options, small_table()).config;
  EXPECT_TRUE(config.shared_experts);
  EXPECT_TRUE(config.non_expert_modules);
}

TEST(Select, BadOptionsAreRefused) {
  const auto refuse = [](const SelectOptions& options, ErrorCode code) {
    return message_of([&] { select_experts(options, small_table()); }, code);
  };
  EXPECT_NE(refuse(method("best"), ErrorCode::kBadSelection).find("token, gate"),
            std::string::npos);
  SelectOptions options = method("token");
  for (double p : {0.0, -0.1, 1.1}) {
    options.top_p = p;
    refuse(options, ErrorCode::kBadSelection);
  }
  refuse(method("top_n"), ErrorCode::kBadSelection);
  options = method("top_n");
  options.n = 5;
  refuse(options, ErrorCode::kBadSelection);
  refuse(method("budget"), ErrorCode::kBadSelection);
  options = method("budget");
  options.budget = 0.01;
  options.min_per_layer = 0;
  refuse(options, ErrorCode::kNothingTrains);
  ScoreTable table = small_table();
  table.gate.clear();
  message_of([&] { select_experts(method("gate"), table); }, ErrorCode::kIncompleteScores);
  table.token[3] = {0, 0, 0, 0};
  EXPECT_NE(
      message_of([&] { select_experts(method("token"), table); }, ErrorCode::kIncompleteScores)
          .find("layer 3"),
      std::string::npos);
}

}  // namespace
}  // namespace sutor
