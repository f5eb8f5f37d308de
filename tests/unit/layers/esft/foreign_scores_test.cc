// Scores that other tools wrote: what they mean is taken, or refused by name; never something else.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "layers/esft/score_records.h"
#include "layers/esft/select_experts.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::expect_error;
using testing::TempDir;
using LayerScores = std::map<int, std::vector<double>>;

const std::filesystem::path kGolden = SUTOR_TEST_DATA "/golden/esft";

std::string file_of(const LayerScores& token, const LayerScores& gate = {}) {
  return summary_json({.token = token,
                       .gate = gate,
                       .num_experts = static_cast<int>(token.begin()->second.size())});
}

ScoreTable read(const std::string& text, const RecordShape& model = {}) {
  const TempDir dir;
  return read_score_table(dir.write("summary.json", text), model);
}

std::string refusal(ErrorCode code, const std::vector<std::string>& words,
                    const std::string& text) {
  return expect_error(code, words, [&] { read(text); });
}

LayerScores scaled(LayerScores scores, const std::function<double(int, size_t)>& factor) {
  for (auto& [layer, values] : scores) {
    for (size_t e = 0; e < values.size(); ++e) values[e] *= factor(layer, e);
  }
  return scores;
}

LayerScores published(const char* name) {
  return read_score_table(kGolden / (std::string(name) + ".scores.json")).token;
}

// As numpy's `scores / np.sum(scores, axis=0)`.
LayerScores divided_over_layers(const LayerScores& scores) {
  std::vector<double> sums(scores.begin()->second.size(), 0);
  for (const auto& [layer, values] : scores) {
    for (size_t e = 0; e < values.size(); ++e) sums[e] += values[e];
  }
  return scaled(scores, [&](int, size_t e) { return sums[e] > 0 ? 1 / sums[e] : 0; });
}

std::vector<std::string> remarks(const ScoreTable& table, bool gate = false) {
  return remarks_on(table, gate, "file");
}

TEST(ForeignSummary, OfEveryPublishedKindIsTakenAsItIs) {
  for (const char* name : {"intent", "summary", "qwen3_coder"}) {
    const ScoreTable table = read_score_table(kGolden / (std::string(name) + ".scores.json"));
    EXPECT_TRUE(remarks(table).empty()) << name;
    EXPECT_TRUE(remarks(table, /*gate=*/true).empty()) << name;
  }
}

TEST(ForeignSummary, LayerWithoutAnyScoreIsLeftOutAndNamed) {
  const ScoreTable glm = read_score_table(kGolden / "glm_air.scores.json");
  EXPECT_EQ(glm.empty_layers, std::vector<int>{46});
  ASSERT_EQ(remarks(glm).size(), 1U);
  EXPECT_NE(remarks(glm)[0].find("W0304"), std::string::npos);
  EXPECT_NE(remarks(glm)[0].find("layer 46"), std::string::npos);
  const ExpertConfig expected = read_expert_config(kGolden / "glm_air.config.json");
  EXPECT_EQ(to_json(select_experts({}, glm).config), to_json(expected));
}

TEST(ForeignSummary, LayersWithoutAnyScoreAreLeftOutWhereverTheyAre) {
  const std::vector<double> zeros(4, 0), some{0.4, 0.3, 0.2, 0.1};
  const LayerScores scores{{0, zeros}, {1, some}, {2, zeros}, {3, some}, {4, zeros}};
  const ScoreTable table = read(file_of(scores, scores));
  EXPECT_EQ(table.empty_layers, (std::vector<int>{0, 2, 4}));
  EXPECT_EQ(select_experts({}, table).config.experts.size(), 2U);
  SelectOptions options;
  options.layers = {{1, 2}};
  expect_error(ErrorCode::kIncompleteScores, {"layer 2", "only zeros"},
               [&] { select_experts(options, table); });
  refusal(ErrorCode::kIncompleteScores, {"no layer has scores"}, file_of({{0, zeros}, {1, zeros}}));
}

TEST(ForeignSummary, DividedAlongTheWrongAxisIsRefused) {
  for (const char* name : {"intent", "qwen3_coder"}) {
    refusal(ErrorCode::kBadScoreRecords, {"wrong axis", "layer ", "adds up to", "rank_*/"},
            file_of(divided_over_layers(published(name))));
  }
  // Fewer experts than layers: the sums of layers are below 1, as those of gate scores may be.
  LayerScores few;
  for (int layer = 0; layer < 8; ++layer) {
    few[layer] = {1.0 + layer, 2, 9.0 - layer, 3};
    few[layer] = scaled({{0, few[layer]}}, [](int, size_t) { return 1 / 15.0; })[0];
  }
  refusal(ErrorCode::kBadScoreRecords, {"wrong axis"}, file_of(divided_over_layers(few)));
  const ScoreTable gates = read(file_of(few, divided_over_layers(few)));
  EXPECT_EQ(gates.token.size(), 8U);
  SelectOptions by_gate;
  by_gate.method = "gate";
  expect_error(ErrorCode::kIncompleteScores, {"wrong axis"},
               [&] { select_experts(by_gate, gates); });
}

TEST(ForeignSummary, DividedAlongTheWrongAxisIsReplacedByTheRecordsBesideIt) {
  const TempDir dir;
  const ScoreTable counted = read_score_table(kGolden / "records");
  for (const char* layer : {"1", "2", "10"}) {
    const std::string name = std::string("expert_weights_") + layer + ".txt";
    dir.write("rank_0/" + name, TempDir().read(kGolden / "records" / name));
  }
  const auto bad = dir.write("summary.json", file_of(divided_over_layers(counted.token)));
  const ScoreTable table = read_score_table(bad);
  EXPECT_EQ(table.token, counted.token);
  EXPECT_EQ(table.gate, counted.gate);
  ASSERT_EQ(remarks(table).size(), 1U);
  EXPECT_NE(remarks(table)[0].find("W0303"), std::string::npos);
}

TEST(ForeignSummary, WhatMultipliedWholeLayersIsDividedOut) {
  // Of records: shares that were rounded do not add up to 1, and dividing them moves a threshold.
  const ScoreTable exact = read_score_table(kGolden / "records");
  const ExpertConfig expected = select_experts({}, exact).config;
  const auto top_k = [](int, size_t) { return 6.0; };  // a sum over tokens, not choices
  const auto percent = [](int, size_t) { return 100.0; };
  const auto whole = [](int, size_t) { return 1 / 26.0; };  // by the sum of the whole table
  const auto first = [](int l, size_t) { return l == 1 ? 1 : .9; };  // by the tokens of one layer
  for (const auto& factor :
       std::vector<std::function<double(int, size_t)>>{top_k, percent, first}) {
    const ScoreTable table = read(file_of(scaled(exact.token, factor)));
    ASSERT_EQ(remarks(table).size(), 1U);
    EXPECT_NE(remarks(table)[0].find("W0303"), std::string::npos);
    EXPECT_EQ(select_experts({}, table).config.experts, expected.experts);
  }
  const LayerScores shares = published("intent");
  const auto counts = [](int, size_t) { return 10000.0; };  // all are whole numbers then
  EXPECT_NE(remarks(read(file_of(scaled(shares, counts)))).at(0).find("W0303"), std::string::npos);
  LayerScores coarse = shares;  // 3 decimals
  for (auto& [layer, values] : coarse) {
    for (double& value : values) value = std::round(value * 1000) / 1000;
  }
  EXPECT_NE(remarks(read(file_of(coarse))).at(0).find("W0303"), std::string::npos);
  // 4 decimals are too few for the same experts, but each layer is a share again.
  for (const auto& [layer, values] : read(file_of(scaled(shares, whole))).token) {
    double sum = 0;
    for (double value : values) sum += value;
    EXPECT_NEAR(sum, 1, 1e-9);
  }
}

TEST(ForeignSummary, SumsThatNothingExplainsAreRefused) {
  refusal(ErrorCode::kBadScoreRecords, {"layer 2 adds up to 2.2000", "no one factor"},
          file_of({{1, {0.6, 0.5, 0.4}}, {2, {1.0, 0.7, 0.5}}}));
  // The best of each layer only: what share the others have is not there.
  refusal(ErrorCode::kBadScoreRecords, {"layer 2 lists 2 of 4 experts"},
          R"({"token_scores": {"1": {"0": 0.4, "1": 0.3, "2": 0.2, "3": 0.1},
                               "2": {"0": 0.3, "1": 0.2}}})");
}

TEST(ForeignSummary, GateScoresNeedNotAddUpToOneButScaledOnesAreUnscaled) {
  const LayerScores token{{1, {0.5, 0.3, 0.2}}, {2, {0.2, 0.2, 0.6}}};
  const LayerScores gate{{1, {0.2, 0.1, 0.05}}, {2, {0.1, 0.1, 0.28}}};  // sums 0.35, 0.48
  EXPECT_TRUE(remarks(read(file_of(token, gate)), true).empty());
  const auto times_16 = [](int, size_t) { return 16.0; };
  const std::string of_v2 = file_of(token, scaled(gate, times_16));
  EXPECT_TRUE(read(of_v2).gate.empty());
  EXPECT_NE(read(of_v2).no_gate.find("--model"), std::string::npos);
  const ScoreTable known = read(of_v2, {.top_k = 2, .weight_scale = 16});
  EXPECT_NEAR(known.gate.at(2)[2], 0.28, 1e-9);
  ASSERT_EQ(remarks(known, true).size(), 1U);
  EXPECT_TRUE(remarks(known).empty());  // token scores need no weights
  // Renormalised weights add up to the scale everywhere.
  const auto times_2_5 = [](int, size_t) { return 2.5; };
  const ScoreTable renormalised = read(file_of(token, scaled(token, times_2_5)));
  EXPECT_NEAR(renormalised.gate.at(1)[0], 0.5, 1e-9);
  EXPECT_NE(remarks(renormalised, true)[0].find("W0303"), std::string::npos);
}

TEST(ForeignSummary, ValuesThatAreNoScoresAreNamed) {
  const auto with = [](const std::string& value) {
    return R"({"token_scores": {"1": {"0": 0.5, "1": )" + value + "}}}";
  };
  refusal(ErrorCode::kNotScores, {"layer 1, expert 1", "NaN", "no token chose"}, with("NaN"));
  refusal(ErrorCode::kNotScores, {"layer 1, expert 1", "0.5"}, with("\"0.5\""));
  refusal(ErrorCode::kNotScores, {"layer 1, expert 1", "-0.5"}, with("-0.5"));
  refusal(ErrorCode::kNotScores, {"layer 1, expert 1"}, with("true"));
  refusal(ErrorCode::kNotScores, {"not valid JSON"}, with("Infinity"));
  refusal(ErrorCode::kNotScores, {"\"1\"", "twice"},
          R"({"token_scores": {"1": {"0": 1.0}, "1": {"0": 1.0}}})");
}

TEST(ForeignSummary, KindsThatContradictEachOtherAreRefused) {
  const std::vector<double> some{0.5, 0.5}, zeros{0, 0};
  refusal(ErrorCode::kBadScoreRecords, {"layer 2", "no gate"},
          file_of({{1, some}, {2, some}}, {{1, some}}));
  refusal(ErrorCode::kBadScoreRecords, {"layer 2", "no token"},
          file_of({{1, some}, {2, zeros}}, {{1, some}, {2, some}}));
}

// One pass of a hook: ids, two TABs, weights.
std::string line(const std::vector<int>& ids, const std::vector<double>& weights) {
  return fmt::format("{}\t\t{}\n", fmt::join(ids, "\t"), fmt::join(weights, "\t"));
}

TEST(ForeignRecords, OfScaledWeightsServeTheTokenScore) {
  const TempDir dir;
  for (const char* layer : {"1", "2"}) {
    dir.write(std::string("rank_0/expert_weights_") + layer + ".txt",
              line({0, 3, 2, 3}, {1.1556, 0.9, 1.3, 0.4}));
  }
  const ScoreTable unknown = read_score_table(dir.path());
  EXPECT_EQ(unknown.token.at(1), (std::vector<double>{0.25, 0, 0.25, 0.5}));
  EXPECT_TRUE(remarks(unknown).empty());
  SelectOptions options;
  EXPECT_EQ(select_experts(options, unknown).config.experts.at(1), std::vector<int>{3});
  options.method = "gate";
  expect_error(ErrorCode::kIncompleteScores, {"1.3", "--model"},
               [&] { select_experts(options, unknown); });
  const ScoreTable known = read_score_table(dir.path(), {.weight_scale = 2.5});
  EXPECT_NEAR(known.gate.at(1)[3], 1.3 / 2.5 / 2, 1e-6);
  EXPECT_NE(remarks(known, true)[0].find("divided by 2.5"), std::string::npos);
  const ScoreTable other = read_score_table(dir.path(), {.weight_scale = 1});
  EXPECT_NE(other.no_gate.find("routed_scaling_factor 1"), std::string::npos);
}

TEST(ForeignRecords, OfRenormalisedWeightsShowTheirOwnScale) {
  const TempDir dir;
  dir.write("expert_weights_1.txt",
            line({0, 1, 2, 1}, {1.5, 1.0, 0.7, 1.8003}) + line({3, 0}, {1.25, 1.2498}));
  const ScoreTable table = read_score_table(dir.path());
  EXPECT_NEAR(table.gate.at(1)[1], (1.0 + 1.8) / 2.5 / 3, 1e-4);
  EXPECT_NE(remarks(table, true)[0].find("W0303"), std::string::npos);
  const TempDir small;  // no single weight is above 1
  small.write("expert_weights_1.txt",
              line({0, 1, 2, 3, 2, 1, 0, 4}, {0.7, 0.6, 0.6, 0.6, 0.9, 0.6, 0.5, 0.5}));
  EXPECT_NEAR(read_score_table(small.path(), {.top_k = 4}).gate.at(1)[2], 1.5 / 2.5 / 2, 1e-4);
}

TEST(ForeignRecords, OfWeightsThatNeedNotAddUpStayAsTheyAre) {
  const TempDir dir;  // two weights of a token, each a softmax of its own
  dir.write("expert_weights_1.txt", line({0, 1, 2, 1}, {0.9, 0.8, 0.5, 0.3}));
  const ScoreTable table = read_score_table(dir.path(), {.top_k = 2});
  EXPECT_TRUE(remarks(table, true).empty());
  EXPECT_NEAR(table.gate.at(1)[1], 0.55, 1e-6);
}

TEST(ForeignRecords, ThatCannotBeAreNamedByFileAndLine) {
  const TempDir dir;
  const auto refuse = [&](const std::string& text, std::vector<std::string> words,
                          const RecordShape& shape = {}) {
    dir.write("expert_weights_1.txt", line({1, 2}, {0.5, 0.1}) + text);
    words.push_back("expert_weights_1.txt:2");
    expect_error(ErrorCode::kBadScoreRecords, words, [&] { read_score_table(dir.path(), shape); });
  };
  refuse("1\t2\t\tnan\t0.1\n", {"nan"});
  refuse("1\t2\t\t0.5\tinf\n", {"inf"});
  refuse("1\t2\t\t0.5\t-0.1\n", {"-0.1"});
  refuse("1.0\t2\t\t0.5\t0.1\n", {"1.0"});
  refuse(line({1, 9}, {0.5, 0.1}), {"expert 9", "8 experts"}, {.num_experts = 8});
  refuse(line({1, 2, 4, 4}, {0.5, 0.1, 0.2, 0.2}), {"token 1", "expert 4 twice"}, {.top_k = 2});
  refuse(line({1, 2, 4}, {0.5, 0.1, 0.2}), {"3 expert ids are not 2"}, {.top_k = 2});
}

TEST(ForeignRecords, OfLayersWithoutANumberAreRefused) {
  const TempDir dir;
  dir.write("rank_0/expert_weights_1.txt", line({1, 2}, {0.5, 0.1}));
  dir.write("rank_0/expert_weights_unknown.txt", line({1, 2}, {0.5, 0.1}));
  expect_error(ErrorCode::kBadScoreRecords, {"expert_weights_unknown.txt", "`unknown`"},
               [&] { read_score_table(dir.path()); });
}

TEST(ForeignRecords, OfUnequallyManyTokensAreSharesOfTheirLayerAndSaid) {
  const TempDir dir;
  dir.write("expert_weights_1.txt", line({0, 1}, {0.5, 0.1}) + line({0, 2}, {0.5, 0.1}));
  dir.write("expert_weights_2.txt", line({0, 1}, {0.5, 0.1}));
  dir.write("expert_weights_3.txt", "");
  const ScoreTable table = read_score_table(dir.path());
  EXPECT_EQ(table.token.at(2), (std::vector<double>{0.5, 0.5, 0}));
  EXPECT_EQ(table.empty_layers, std::vector<int>{3});
  EXPECT_NE(table.note.find("1 to 2 tokens"), std::string::npos);
}

}  // namespace
}  // namespace sutor
