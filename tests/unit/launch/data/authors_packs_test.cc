// The authors' random concatenation, beside what their program makes of the same documents; and the
// packs that isolate documents, on the same lengths.
#include "launch/data/authors_packs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "launch/data/micro_batch.h"
#include "launch/data/packing.h"
#include "launch/data/python_random.h"
#include "tests/unit/launch/data/store_fixture.h"

namespace sutor {
namespace {

using testing::make_store;
using testing::TempDir;

constexpr int32_t kBegin = 7;  // the begin token of the stores below

// tests/golden/packing/intent_lengths.txt: tokens and answer tokens of every row of the authors'
// intent set. The store has such documents: the begin token, a prompt, an answer in the loss.
TokenStore intent_store(const TempDir& dir) {
  std::ifstream in(SUTOR_TEST_DATA "/golden/packing/intent_lengths.txt");
  std::vector<int32_t> ids;
  std::vector<uint8_t> mask;
  std::vector<int64_t> offsets = {0};
  for (int64_t length, answer; in >> length >> answer;) {
    for (int64_t i = 0; i < length; ++i) {
      ids.push_back(i == 0 ? kBegin : 10);
      mask.push_back(i >= length - answer);
    }
    offsets.push_back(static_cast<int64_t>(ids.size()));
  }
  TokenStoreInfo info;
  info.vocab_size = 16;
  info.bos_id = kBegin;
  const auto path = dir / "intent.tokens.h5";
  write_token_store(path, ids, mask, offsets, info);
  return TokenStore(path);
}

TEST(PythonRandom, GivesTheNumbersOfPython) {
  PythonRandom zero(0), authors(kAuthorsSeed);
  EXPECT_EQ(zero.next(), 0.8444218515250481);
  EXPECT_EQ(zero.next(), 0.7579544029403025);
  for (int i = 0; i < 998; ++i) zero.next();
  EXPECT_EQ(zero.next(), 0.9466893945947962);
  EXPECT_EQ(authors.next(), 0.14104452135856926);
}

TEST(AuthorsPacks, OfTheIntentSetHaveTheAuthorsFigures) {
  TempDir dir;
  const TokenStore store = intent_store(dir);
  ASSERT_EQ(store.num_tokens(), 469666);
  const TokenStore* stores[] = {&store};
  DataOptions options;
  options.authors_packs = true;
  const PackingReport report = build_samples(stores, options, 42, 0).report;
  EXPECT_EQ(report.documents, 7280);
  EXPECT_EQ(report.samples, 113);
  EXPECT_EQ(report.truncated, 140);
  EXPECT_EQ(report.cut_tokens, 5539);
  EXPECT_EQ(report.first_tokens_dropped, 1427);
  EXPECT_EQ(report.tokens, 462700);
  EXPECT_EQ(report.supervised, 225298);  // 48.7%; by their program in Python, shifted by one
}

TEST(AuthorsPacks, AreTheSameInEveryEpochInAnotherOrder) {
  TempDir dir;
  const TokenStore store = intent_store(dir);
  const TokenStore* stores[] = {&store};
  DataOptions options;
  options.authors_packs = true;
  const auto begins = [&](int64_t epoch) {
    std::vector<int64_t> all;
    for (const Sample& sample : build_samples(stores, options, 42, epoch).samples) {
      all.push_back(sample.segments.front().begin);
    }
    return all;
  };
  std::vector<int64_t> first = begins(0), second = begins(1);
  EXPECT_NE(first, second);
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  EXPECT_EQ(first, second);
}

TEST(AuthorsPacks, APackIsOneSequenceInWhichTheNextBeginTokenIsATarget) {
  TempDir dir;
  const TokenStore store = intent_store(dir);
  const TokenStore* stores[] = {&store};
  std::vector<Segment> documents;
  for (int64_t d = 0; d < 40; ++d) {
    documents.push_back({0, store.document(d).begin, store.document(d).length});
  }
  PackingReport report;
  const auto packs = authors_packs(stores, documents, 256, report);
  ASSERT_GT(packs.size(), 5u);
  int64_t begin_targets = 0;
  for (const std::vector<Segment>& members : packs) {
    Sample sample;
    sample.segments = members;
    const std::vector<Sample> samples = {sample};
    const MicroBatch batch = micro_batches(stores, samples, {0, 1}, 1).front();
    EXPECT_EQ(batch.doc_offsets, (std::vector<int64_t>{0, static_cast<int64_t>(batch.ids.size())}));
    EXPECT_EQ(sequence_count(samples), 1);
    int64_t targets = 0;
    for (size_t i = 0; i + 1 < batch.ids.size(); ++i) {
      EXPECT_TRUE(batch.ids[i + 1] != kBegin || batch.targets[i] == kBegin);
      begin_targets += batch.targets[i] == kBegin;
      targets += batch.targets[i] != kNoTarget;
    }
    EXPECT_EQ(batch.targets.back(), kNoTarget);
    EXPECT_EQ(targets, batch.supervised);
  }
  EXPECT_GT(begin_targets, 10);
}

TEST(Packing, OfTheIntentSetIsAtLeast97PercentFull) {
  TempDir dir;
  const TokenStore store = intent_store(dir);
  const TokenStore* stores[] = {&store};
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    const PackingReport report = build_samples(stores, DataOptions{}, 42, epoch).report;
    EXPECT_EQ(report.tokens, 469666);
    EXPECT_GE(report.efficiency, 0.97);
    EXPECT_LE(report.samples, 116);  // 115 would be full
  }
}

// First fit decreasing over all of them at once, the measure that the window must not fall behind.
TEST(Packing, NeedsNoMorePacksThanFirstFitDecreasing) {
  for (const int64_t capacity : {64, 100, 512, 4096}) {
    std::vector<int64_t> lengths;
    uint64_t state = 5;
    for (int i = 0; i < 5000; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const auto most = static_cast<uint64_t>((state >> 40) % 4 == 0 ? capacity : capacity / 5);
      lengths.push_back(1 + static_cast<int64_t>((state >> 33) % most));
    }
    std::vector<int64_t> falling = lengths, room;
    std::sort(falling.rbegin(), falling.rend());
    for (const int64_t length : falling) {
      const auto fits =
          std::find_if(room.begin(), room.end(), [&](int64_t left) { return left >= length; });
      if (fits == room.end()) {
        room.push_back(capacity - length);
      } else {
        *fits -= length;
      }
    }
    EXPECT_LE(pack(lengths, capacity).size(), room.size() * 101 / 100 + 1) << capacity;
    EXPECT_LE(pack(lengths, capacity, 5000).size(), room.size()) << capacity;
  }
}

}  // namespace
}  // namespace sutor
