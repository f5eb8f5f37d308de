// The sample order: what every document becomes, and that nothing but seed and epoch decides.
#include "launch/data/sample_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "csrc/base/error.h"
#include "launch/data/packing.h"
#include "tests/support/expect_error.h"
#include "tests/unit/launch/data/store_fixture.h"

namespace sutor {
namespace {

using testing::expect_error;
using testing::make_store;
using testing::TempDir;

DataOptions options(int64_t seq_len, bool packing, const std::string& too_long = "drop") {
  DataOptions result;
  result.seq_len = seq_len;
  result.packing = packing;
  result.too_long = too_long;
  return result;
}

std::vector<std::vector<int64_t>> begins(const SampleList& list) {
  std::vector<std::vector<int64_t>> result;
  for (const Sample& sample : list.samples) {
    for (auto& row = result.emplace_back(); const Segment& segment : sample.segments) {
      row.push_back(segment.begin);
    }
  }
  return result;
}

// Lengths with a long tail, as documents have.
std::vector<int64_t> uneven_lengths(size_t count) {
  std::vector<int64_t> lengths;
  uint64_t state = 1;
  for (size_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const int64_t most = (state >> 40) % 10 == 0 ? 512 : 90;
    lengths.push_back(1 + static_cast<int64_t>((state >> 33) % most));
  }
  return lengths;
}

TEST(SampleOrder, DependsOnSeedAndEpochOnly) {
  TempDir dir;
  const TokenStore store = make_store(dir, "a", uneven_lengths(300));
  const TokenStore* stores[] = {&store};
  for (const bool packing : {true, false}) {
    const auto first = begins(build_samples(stores, options(512, packing), 42, 3));
    EXPECT_EQ(first, begins(build_samples(stores, options(512, packing), 42, 3)));
    EXPECT_NE(first, begins(build_samples(stores, options(512, packing), 42, 4)));
    EXPECT_NE(first, begins(build_samples(stores, options(512, packing), 43, 3)));
  }
}

TEST(SampleOrder, IsTheSameOnEveryMachine) {
  TempDir dir;
  const TokenStore store = make_store(dir, "a", std::vector<int64_t>(8, 1 + 1));
  const TokenStore* stores[] = {&store};
  const auto order = begins(build_samples(stores, options(2, false), 42, 0));
  EXPECT_EQ(order, (std::vector<std::vector<int64_t>>{{14}, {4}, {8}, {10}, {2}, {0}, {6}, {12}}));
}

TEST(SampleOrder, PacksEveryDocumentOnceWithLittleRoomLeft) {
  TempDir dir;
  const std::vector<int64_t> lengths = uneven_lengths(3000);
  const TokenStore one = make_store(dir, "a", {lengths.begin(), lengths.begin() + 2000});
  const TokenStore two = make_store(dir, "b", {lengths.begin() + 2000, lengths.end()});
  const TokenStore* stores[] = {&one, &two};
  const SampleList list = build_samples(stores, options(512, true), 1, 0);
  std::set<std::pair<int, int64_t>> seen;
  for (const Sample& sample : list.samples) {
    int64_t tokens = 0, supervised = 0;
    for (const Segment& segment : sample.segments) {
      EXPECT_TRUE(seen.emplace(segment.store, segment.begin).second);
      tokens += segment.length;
      supervised += segment.supervised;
    }
    EXPECT_LE(tokens, 512);
    EXPECT_EQ(tokens, sample.tokens);
    EXPECT_EQ(supervised, sample.supervised);
  }
  // A document of one token has no target.
  const auto single = std::count(lengths.begin(), lengths.end(), 1);
  EXPECT_EQ(list.report.unsupervised, single);
  EXPECT_EQ(static_cast<int64_t>(seen.size()), 3000 - single);
  EXPECT_EQ(list.report.tokens, one.num_tokens() + two.num_tokens() - single);
  EXPECT_EQ(list.report.supervised, one.num_supervised() + two.num_supervised());
  EXPECT_GT(list.report.efficiency, 0.98);
}

TEST(Packing, FillsHolesOfEarlierWindows) {
  const std::vector<int64_t> lengths = {6, 6, 6, 4, 4, 4};
  EXPECT_EQ(pack(lengths, 10, 3).size(), 3u);
  EXPECT_EQ(pack(lengths, 10).size(), 3u);
  EXPECT_TRUE(pack({}, 10).empty());
}

TEST(SampleOrder, CountsWhatHappensToLongDocuments) {
  TempDir dir;
  const TokenStore store = make_store(dir, "a", {10, 3, 4});
  const TokenStore* stores[] = {&store};
  const SampleList dropped = build_samples(stores, options(4, false, "drop"), 0, 0);
  EXPECT_EQ(dropped.report.dropped, 1);
  EXPECT_EQ(dropped.report.samples, 2);
  EXPECT_EQ(dropped.report.supervised, 5);

  const SampleList truncated = build_samples(stores, options(4, false, "truncate"), 0, 0);
  EXPECT_EQ(truncated.report.truncated, 1);
  EXPECT_EQ(truncated.report.supervised, 8);
}

TEST(SampleOrder, SplitKeepsEveryTargetOnce) {
  TempDir dir;
  for (const int64_t length : {5, 7, 10, 11, 12, 13}) {
    const TokenStore store = make_store(dir, "a", {length});
    const TokenStore* stores[] = {&store};
    for (const SampleList& list :
         {build_samples(stores, options(4, false, "split"), 0, 0), eval_samples(store, 4)}) {
      EXPECT_EQ(list.report.split, 1);
      EXPECT_EQ(list.report.supervised, length - 1);
      std::vector<int64_t> targets;
      for (const Sample& sample : list.samples) {
        const Segment& segment = sample.segments[0];
        for (int64_t i = 1; i < segment.length; ++i) targets.push_back(segment.begin + i);
      }
      std::sort(targets.begin(), targets.end());
      std::vector<int64_t> all(length - 1);
      std::iota(all.begin(), all.end(), 1);
      EXPECT_EQ(targets, all) << "length " << length;
    }
  }
}

TEST(SampleOrder, RefusesDataWithoutATarget) {
  TempDir dir;
  const TokenStore masked = make_store(dir, "masked", {4, 4}, 0, {0, 1});
  const TokenStore longer = make_store(dir, "long", {9, 9});
  for (const TokenStore* store : {&masked, &longer}) {
    expect_error(ErrorCode::kNoData, {store->path().filename().string()},
                 [&] { build_samples(std::span(&store, 1), options(4, true), 0, 0); });
  }
}

TEST(SampleOrder, EverySampleHasATarget) {
  TempDir dir;
  const TokenStore half = make_store(dir, "half", {4, 4, 1, 3, 4}, 0, {0, 3});
  const TokenStore* stores[] = {&half};
  for (const bool packing : {true, false}) {
    const SampleList list = build_samples(stores, options(4, packing), 0, 0);
    EXPECT_EQ(list.report.documents, 5);
    EXPECT_EQ(list.report.unsupervised, 3);
    EXPECT_EQ(list.report.cut_unsupervised, 0);
    EXPECT_EQ(list.report.samples, 2);
    EXPECT_TRUE(leaves_out(list.report));
    for (const Sample& sample : list.samples) EXPECT_GT(sample.supervised, 0);
  }
  const TokenStore whole = make_store(dir, "whole", {4, 4});
  const TokenStore* whole_stores[] = {&whole};
  EXPECT_FALSE(leaves_out(build_samples(whole_stores, options(4, true), 0, 0).report));
}

TEST(SampleOrder, EvaluationKeepsFileOrder) {
  TempDir dir;
  const TokenStore store = make_store(dir, "a", {3, 2, 4});
  EXPECT_EQ(begins(eval_samples(store, 8)), (std::vector<std::vector<int64_t>>{{0}, {3}, {5}}));
}

TEST(SampleOrder, TheLastBatchOfAnEpochMayBeShort) { EXPECT_EQ(batches_per_epoch(10, 4), 3); }

TEST(SampleStream, ResumesAtTheNextSample) {
  TempDir dir;
  const TokenStore store = make_store(dir, "a", uneven_lengths(40));
  const auto take = [](SampleStream& stream) {
    std::vector<int64_t> result;
    for (const Sample& sample : stream.next_batch()) result.push_back(sample.segments[0].begin);
    return result;
  };
  SampleStream uninterrupted({&store}, options(512, true), 42, 3);
  for (int step = 0; step < 12; ++step) {
    SampleStream resumed({&store}, options(512, true), 42, 3, uninterrupted.cursor());
    EXPECT_EQ(take(resumed), take(uninterrupted)) << "step " << step;
    EXPECT_EQ(resumed.cursor(), uninterrupted.cursor());
  }
  EXPECT_GT(uninterrupted.cursor().epoch, 0);
  EXPECT_THROW(SampleStream({&store}, options(512, true), 42, 3, {0, 1000}), Error);
}

TEST(SampleStream, CountsTheStepsThatItGives) {
  TempDir dir;
  const TokenStore store = make_store(dir, "a", uneven_lengths(500));
  SampleStream stream({&store}, options(512, true), 7, 4);
  int64_t steps = 0;
  while (true) {
    stream.next_batch();
    if (stream.cursor().epoch == 3) break;
    ++steps;
  }
  EXPECT_EQ(stream.steps_of_epochs(3), steps);
  const SampleStream fresh({&store}, options(512, true), 7, 4);
  const int64_t once = fresh.steps_of_epochs(1);
  ScheduleOptions nine_steps;
  nine_steps.steps = 9;
  EXPECT_EQ(fresh.steps_of_epochs(0.5), (once + 1) / 2);
  EXPECT_EQ(total_steps(nine_steps, fresh), 9);
  EXPECT_EQ(total_steps(ScheduleOptions{}, fresh), once);
}

}  // namespace
}  // namespace sutor
