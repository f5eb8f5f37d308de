// Micro-batches: targets, document bounds, and the same work on all ranks together.
#include "launch/data/micro_batch.h"

#include <gtest/gtest.h>

#include "tests/unit/launch/data/store_fixture.h"

namespace sutor {
namespace {

using testing::make_store;
using testing::TempDir;

TEST(MicroBatch, TargetsAreNextTokensAndNeverCrossDocuments) {
  TempDir dir;
  const TokenStore store = make_store(dir, "a", {3, 2, 2}, 100, {1});
  const TokenStore* stores[] = {&store};
  std::vector<Sample> samples = eval_samples(store, 8).samples;
  const std::vector<MicroBatch> batches = micro_batches(stores, samples, {0, 3}, 2);
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_EQ(batches[0].ids, (std::vector<int64_t>{100, 101, 102, 103, 104}));
  EXPECT_EQ(batches[0].targets, (std::vector<int64_t>{101, 102, kNoTarget, kNoTarget, kNoTarget}));
  EXPECT_EQ(batches[0].doc_offsets, (std::vector<int64_t>{0, 3, 5}));
  EXPECT_EQ(batches[0].supervised, 2);
  EXPECT_EQ(batches[1].targets, (std::vector<int64_t>{106, kNoTarget}));
}

TEST(MicroBatch, RanksTogetherSeeTheBatchOnceInEquallyManyMicroBatches) {
  TempDir dir;
  const TokenStore store = make_store(dir, "a", {3, 2, 4, 2, 5, 2, 3});
  const TokenStore* stores[] = {&store};
  const std::vector<Sample> samples = eval_samples(store, 8).samples;
  for (const int64_t ranks : {1, 2, 3, 4, 9}) {
    for (const int64_t micro_batch : {1, 2, 5}) {
      std::vector<int64_t> ids;
      int64_t supervised = 0;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const auto batches = rank_micro_batches(stores, samples, rank, ranks, micro_batch);
        EXPECT_EQ(static_cast<int64_t>(batches.size()), micro_batch_count(7, ranks, micro_batch));
        for (const MicroBatch& batch : batches) {
          EXPECT_EQ(batch.doc_offsets.back(), static_cast<int64_t>(batch.ids.size()));
          EXPECT_EQ(batch.targets.size(), batch.ids.size());
          ids.insert(ids.end(), batch.ids.begin(), batch.ids.end());
          supervised += batch.supervised;
        }
      }
      const auto all = store.ids(0, store.num_tokens());
      EXPECT_EQ(ids, std::vector<int64_t>(all.begin(), all.end()));
      EXPECT_EQ(supervised, supervised_tokens(samples));
      EXPECT_EQ(static_cast<int64_t>(ids.size()), token_count(samples));
    }
  }
}

TEST(MicroBatch, OneByOneTheyAreTheSamplesOfTheRankInOrderAndThenEmpty) {
  TempDir dir;
  const TokenStore store = make_store(dir, "a", {3, 2, 4, 2, 5, 2, 3});
  const TokenStore* stores[] = {&store};
  const std::vector<Sample> samples = eval_samples(store, 8).samples;
  for (const int64_t ranks : {1, 3, 9}) {
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const Range share = rank_range({0, 7}, rank, ranks);
      const auto all = micro_batches(stores, samples, share, 2);
      for (int64_t i = 0; i < micro_batch_count(7, ranks, 2); ++i) {
        const MicroBatch batch = rank_micro_batch(stores, samples, rank, ranks, 2, i);
        const bool filled = i < static_cast<int64_t>(all.size());
        EXPECT_EQ(batch.ids, filled ? all[i].ids : std::vector<int64_t>());
        EXPECT_EQ(batch.targets, filled ? all[i].targets : std::vector<int64_t>());
        EXPECT_EQ(batch.doc_offsets, filled ? all[i].doc_offsets : std::vector<int64_t>{0});
        EXPECT_EQ(batch.supervised, filled ? all[i].supervised : 0);
      }
    }
  }
}

}  // namespace
}  // namespace sutor
