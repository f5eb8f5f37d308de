// Score files: our HDF5, the authors' records and summaries.
#include "layers/esft/score_records.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::expect_error;
using testing::TempDir;

const std::filesystem::path kGolden = SUTOR_TEST_DATA "/golden/esft";

ExpertScores small_scores() {
  ExpertScores scores({1, 10}, 4, 2);
  scores.add(1, std::vector<int64_t>{0, 1, 1, 2}, std::vector<float>{0.5F, 0.1F, 0.2F, 0.3F}, 2);
  scores.add(10, std::vector<int64_t>{3, 2, 3, 0}, std::vector<float>{0.9F, 0.05F, 0.7F, 0.1F}, 2);
  return scores;
}

TEST(Round4, FollowsPython) {
  // Pairs as Python's round(x, 4) gives them; 0.03125 is an exact tie, 0.00015 is not.
  EXPECT_EQ(round4(0.03125), 0.0312);
  EXPECT_EQ(round4(0.09375), 0.0938);
  EXPECT_EQ(round4(0.00015), 0.0001);
  EXPECT_EQ(round4(0.00025), 0.0003);
  EXPECT_EQ(round4(0.12345), 0.1235);
  EXPECT_EQ(format4(0.0470), "0.047");
  EXPECT_EQ(format4(1.0), "1.0");
  EXPECT_EQ(format4(0.0), "0.0");
  EXPECT_EQ(format4(0.0001), "0.0001");
  EXPECT_EQ(format4(0.00004), "0.0");
}

TEST(Scores, HoldTheSameIntegersAfterWritingAndReading) {
  const TempDir dir;
  const ExpertScores scores = small_scores();
  write_scores(scores, {"deepseek_v2", "xxh3:aa", "xxh3:bb", "0.1.0"}, dir / "scores.h5");
  const StoredScores back = read_scores(dir / "scores.h5");
  EXPECT_EQ(back.scores.layers(), scores.layers());
  EXPECT_EQ(back.scores.top_k(), 2);
  EXPECT_TRUE(std::equal(scores.flat().begin(), scores.flat().end(), back.scores.flat().begin()));
  EXPECT_EQ(back.origin.family, "deepseek_v2");
  EXPECT_EQ(back.origin.base_digest, "xxh3:aa");
  EXPECT_EQ(back.origin.data_digest, "xxh3:bb");
  EXPECT_EQ(back.origin.version, "0.1.0");
}

TEST(Scores, EqualScoresGiveEqualBytes) {
  const TempDir dir;
  write_scores(small_scores(), {}, dir / "a.h5");
  write_scores(small_scores(), {}, dir / "b.h5");
  EXPECT_EQ(dir.read("a.h5"), dir.read("b.h5"));
}

TEST(Scores, CorruptFilesAreRefusedByName) {
  const TempDir dir;
  write_scores(small_scores(), {}, dir / "scores.h5");
  const std::string bytes = dir.read("scores.h5");
  const auto cut = dir.write("cut.h5", bytes.substr(0, bytes.size() / 2));
  EXPECT_NE(expect_error(ErrorCode::kNotScores, [&] { read_scores(cut); }).find("cut.h5"),
            std::string::npos);
  const auto text = dir.write("text.h5", "no HDF5");
  expect_error(ErrorCode::kNotScores, [&] { read_scores(text); });

  ExpertScores impossible({1}, 2, 1);
  impossible.set_layer(1, std::vector<int64_t>{3, 0}, std::vector<int64_t>{0, 0}, 2);
  write_scores(impossible, {}, dir / "sum.h5");
  EXPECT_NE(expect_error(ErrorCode::kNotScores, [&] { read_scores(dir / "sum.h5"); })
                .find("do not add up"),
            std::string::npos);
}

TEST(Records, GiveTheSummaryThatPythonComputesToTheLastByte) {
  const ExpertScores scores = read_records(kGolden / "records");
  EXPECT_EQ(scores.top_k(), 3);  // found in the records
  EXPECT_EQ(scores.num_experts(), 16);
  EXPECT_EQ(scores.num_tokens(), 21);
  EXPECT_EQ(summary_json(scores.table()), TempDir().read(kGolden / "records" / "summary.json"));
}

TEST(Records, HalvesOfTheTokensAddUpToTheWhole) {
  const ExpertScores full = read_records(kGolden / "records");
  auto [first, second] = read_record_halves(kGolden / "records");
  EXPECT_EQ(first.num_tokens(), 10);
  EXPECT_EQ(second.num_tokens(), 11);
  first.merge(second);
  EXPECT_TRUE(std::equal(first.flat().begin(), first.flat().end(), full.flat().begin()));
}

TEST(Records, RankFoldersAreSummed) {
  const TempDir dir;
  for (const char* layer : {"1", "2", "10"}) {
    const std::string name = std::string("expert_weights_") + layer + ".txt";
    const std::string text = TempDir().read(kGolden / "records" / name);
    const size_t line = text.find('\n') + 1;
    dir.write("rank_0/" + name, text.substr(0, line));
    dir.write("rank_1/" + name, text.substr(line));
  }
  const ExpertScores split = read_records(dir.path()), full = read_records(kGolden / "records");
  EXPECT_EQ(split.layers(), full.layers());
  EXPECT_TRUE(std::equal(split.flat().begin(), split.flat().end(), full.flat().begin()));
  EXPECT_EQ(read_score_table(dir.path()).token, full.table().token);
}

TEST(Records, WhatIsWrittenIsReadBackWithWeightsRounded) {
  const TempDir dir;
  {
    RecordWriter writer(dir / "records", {3});
    writer.add(3, std::vector<int64_t>{5, 1, 0, 2},
               std::vector<float>{0.5F, 0.0004F, 1.0F, 0.04704F});
    writer.add(3, std::vector<int64_t>{1, 2}, std::vector<float>{0.25F, 0.00001F});
    writer.close();
  }
  EXPECT_EQ(dir.read("records/expert_weights_3.txt"),
            "5\t1\t0\t2\t\t0.5\t0.0004\t1.0\t0.047\n1\t2\t\t0.25\t0.0\n");
  const ExpertScores back = read_records(dir / "records", {.num_experts = 8, .top_k = 2});
  EXPECT_EQ(back.num_tokens(3), 3);
  EXPECT_EQ(back.counts(3)[1], 2);
}

TEST(Records, BadLinesAreNamedByFileAndNumber) {
  const TempDir dir;
  const auto refuse = [&](const char* text, RecordShape shape = {}) {
    dir.write("expert_weights_1.txt", text);
    return expect_error(ErrorCode::kBadScoreRecords, [&] { read_records(dir.path(), shape); });
  };
  EXPECT_NE(refuse("1\t2\t\t0.5\t0.1\n1\t2\n").find("expert_weights_1.txt:2"), std::string::npos);
  EXPECT_NE(refuse("1\t2\t\t0.5\n").find("2 expert ids, but 1 weights"), std::string::npos);
  EXPECT_NE(refuse("1\tx\t\t0.5\t0.1\n").find("found `x`"), std::string::npos);
  EXPECT_NE(refuse("1\t-2\t\t0.5\t0.1\n").find("-2 is no expert id"), std::string::npos);
  EXPECT_NE(refuse("\n").find("no tokens"), std::string::npos);
  refuse("1\t9\t\t0.5\t0.1\n", {.num_experts = 8});
  refuse("1\t2\t\t0.5\t0.1\n", {.top_k = 4});
  const TempDir empty;
  expect_error(ErrorCode::kBadScoreRecords, [&] { read_records(empty.path()); });
}

TEST(ScoreTable, EveryPublishedFormIsFound) {
  const TempDir dir;
  write_scores(small_scores(), {}, dir / "scores.h5");
  EXPECT_EQ(read_score_table(dir.path()).token, small_scores().table().token);
  EXPECT_EQ(read_score_table(dir / "scores.h5").num_tokens, 2);
  EXPECT_EQ(read_score_table(kGolden / "intent.scores.json").token.size(), 26U);
  EXPECT_EQ(read_score_table(kGolden / "qwen3_coder.scores.json").num_experts, 128);
  EXPECT_EQ(read_score_table(kGolden / "records").token.size(), 3U);
}

TEST(ScoreTable, SummariesAreWrittenBackByteForByte) {
  for (const char* task : {"intent", "summary"}) {
    const auto path = kGolden / (std::string(task) + ".scores.json");
    EXPECT_EQ(summary_json(read_score_table(path)), TempDir().read(path)) << task;
  }
}

TEST(ScoreTable, WhatIsNoScoreFileIsRefused) {
  const TempDir dir;
  const auto refuse = [&](const char* text) {
    const auto path = dir.write("summary.json", text);
    return expect_error(ErrorCode::kNotScores, [&] { read_score_table(path); });
  };
  refuse("{");
  EXPECT_NE(refuse("{}").find("token_scores"), std::string::npos);
  refuse("{\"token_scores\": {\"1\": [0.5]}}");
  refuse("{\"token_scores\": {\"a\": {\"0\": 0.5}}}");
  refuse("{\"token_scores\": {\"1\": {\"0\": -0.5}}}");
  refuse("{\"token_scores\": {\"1\": {\"0\": null}}}");
  const TempDir empty;
  EXPECT_NE(expect_error(ErrorCode::kNotScores, [&] { read_score_table(empty.path()); })
                .find("no scores"),
            std::string::npos);
  expect_error(ErrorCode::kNotScores, [&] { read_score_table(empty / "missing.h5"); });
}

}  // namespace
}  // namespace sutor
