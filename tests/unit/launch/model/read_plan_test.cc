// Plans of reads: every share of every piece is read once, by one of its holders, evenly.
#include "launch/model/read_plan.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace sutor {
namespace {

ShardBounds shard(int64_t tensor, int64_t row_begin, int64_t row_count, int64_t col_begin,
                  int64_t col_count) {
  return {tensor, row_begin, row_count, col_begin, col_count, /*element_bytes=*/2};
}

ReadBoundary every(int64_t rows) {
  return [rows](int64_t, int64_t row) { return row + rows; };
}

std::vector<PlannedRead> shared_of(const ReadPlan& plan) {
  std::vector<PlannedRead> all;
  for (const auto& round : plan.rounds) all.insert(all.end(), round.begin(), round.end());
  return all;
}

TEST(ReadPlan, ATensorOfOneRankIsReadWholeByIt) {
  const ReadPlan plan = plan_reads({{}, {shard(3, 4, 6, 1, 5)}}, every(2), 100);
  EXPECT_TRUE(plan.rounds.empty());
  ASSERT_EQ(plan.unshared.size(), 1u);
  EXPECT_EQ(plan.unshared[0].reader, 1);
  EXPECT_EQ(plan.unshared[0].extent.row_begin, 4);
  EXPECT_EQ(plan.unshared[0].extent.row_count, 6);
  EXPECT_EQ(plan.unshared[0].extent.col_count, 5);
}

TEST(ReadPlan, CopiesAreReadByOneHolderEachAndEvenly) {
  std::vector<ShardBounds> shards;
  for (int64_t t = 0; t < 12; ++t) shards.push_back(shard(t, 0, 4, 0, 4));
  // Another tensor of rank 0 alone, as large as three of them.
  std::vector<std::vector<ShardBounds>> of_rank(3, shards);
  of_rank[0].push_back(shard(20, 0, 12, 0, 4));
  const ReadPlan plan = plan_reads(of_rank, every(4), 1 << 20);
  std::vector<int> reads(3, 0);
  for (const PlannedRead& read : shared_of(plan)) {
    ++reads[static_cast<size_t>(read.reader)];
    EXPECT_EQ(read.slices.size(), 3u);
  }
  EXPECT_EQ(reads, (std::vector<int>{2, 5, 5}));
}

TEST(ReadPlan, ColumnShardsAreReadTogether) {
  const ReadPlan plan = plan_reads({{shard(0, 0, 8, 0, 3)}, {shard(0, 0, 8, 3, 3)}}, every(4), 100);
  const std::vector<PlannedRead> reads = shared_of(plan);
  ASSERT_EQ(reads.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(reads[i].extent.row_begin, static_cast<int64_t>(4 * i));
    EXPECT_EQ(reads[i].extent.row_count, 4);
    EXPECT_EQ(reads[i].extent.col_begin, 0);
    EXPECT_EQ(reads[i].extent.col_count, 6);
    EXPECT_EQ(reads[i].reader, static_cast<int>(i));
  }
}

TEST(ReadPlan, RowShardsAreSharedOnlyWhereNoBoundarySeparatesThem) {
  // Rows 0 to 7 and 7 to 14, cut at 0, 4, 8, 12.
  const ReadPlan plan = plan_reads({{shard(0, 0, 7, 0, 2)}, {shard(0, 7, 7, 0, 2)}}, every(4), 100);
  ASSERT_EQ(plan.unshared.size(), 3u);
  EXPECT_EQ(plan.unshared[0].reader, 0);
  EXPECT_EQ(plan.unshared[2].reader, 1);
  EXPECT_EQ(plan.unshared[2].extent.row_begin, 12);
  EXPECT_EQ(plan.unshared[2].extent.row_count, 2);
  const std::vector<PlannedRead> reads = shared_of(plan);
  ASSERT_EQ(reads.size(), 1u);
  EXPECT_EQ(reads[0].extent.row_begin, 4);
  EXPECT_EQ(reads[0].extent.row_count, 4);
  ASSERT_EQ(reads[0].slices.size(), 2u);
  EXPECT_EQ(reads[0].slices[0].row_count, 3);
  EXPECT_EQ(reads[0].slices[1].row_begin, 7);
  EXPECT_EQ(reads[0].slices[1].row_count, 1);
}

TEST(ReadPlan, RowsThatNobodyHoldsAreNotRead) {
  const ReadPlan plan = plan_reads(
      {{shard(0, 8, 2, 0, 2)}, {shard(0, 8, 2, 0, 2), shard(1, 0, 0, 0, 2)}}, every(4), 9);
  EXPECT_TRUE(plan.unshared.empty());
  ASSERT_EQ(shared_of(plan).size(), 1u);
  EXPECT_EQ(shared_of(plan)[0].extent.row_begin, 8);
  EXPECT_EQ(shared_of(plan)[0].extent.row_count, 2);
}

TEST(ReadPlan, NoRankReadsMoreThanABufferInARound) {
  std::vector<ShardBounds> shards;
  for (int64_t t = 0; t < 50; ++t) shards.push_back(shard(t, 0, 1 + t % 7, 0, 3));
  const ReadPlan plan = plan_reads({shards, shards, shards}, every(100), 60);
  EXPECT_GT(plan.rounds.size(), 3u);
  for (const auto& round : plan.rounds) {
    std::vector<int64_t> bytes(3, 0);
    for (const PlannedRead& read : round) {
      bytes[static_cast<size_t>(read.reader)] += read.extent.num_bytes();
    }
    EXPECT_LE(*std::max_element(bytes.begin(), bytes.end()), 60);
  }
  // A larger one is the only one of its rank.
  for (const auto& round : plan_reads({shards, shards}, every(100), 1).rounds) {
    EXPECT_LE(round.size(), 2u);
    EXPECT_TRUE(round.size() == 1 || round[0].reader != round[1].reader);
  }
}

}  // namespace
}  // namespace sutor
