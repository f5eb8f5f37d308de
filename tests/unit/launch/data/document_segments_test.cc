// What becomes of long documents and of those without a target.
#include "launch/data/document_segments.h"

#include <gtest/gtest.h>

#include "tests/unit/launch/data/store_fixture.h"

namespace sutor {
namespace {

using testing::make_store;
using testing::TempDir;

struct Segments {
  std::vector<std::pair<int64_t, int64_t>> ranges;  // begin, length
  PackingReport report;
};

Segments segments_of(const TokenStore& store, const SegmentRules& rules) {
  std::vector<Segment> segments;
  Segments result;
  for (int64_t d = 0; d < store.num_documents(); ++d) {
    append_segments(store, 0, store.document(d), rules, segments, result.report);
  }
  for (const Segment& segment : segments) {
    result.ranges.emplace_back(segment.begin, segment.length);
  }
  return result;
}

// Ids count up from 0; only the last `targets` tokens of the document of `length` are in the loss.
TokenStore answer_at_the_end(const TempDir& dir, int64_t length, int64_t targets) {
  std::vector<int32_t> ids(static_cast<size_t>(length));
  std::vector<uint8_t> mask(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int32_t>(i);
    mask[i] = static_cast<int64_t>(i) >= length - targets;
  }
  TokenStoreInfo info;
  info.vocab_size = length;
  const auto path = dir / "answer.tokens.h5";
  write_token_store(path, ids, mask, std::vector<int64_t>{0, length}, info);
  return TokenStore(path);
}

using Ranges = std::vector<std::pair<int64_t, int64_t>>;

TEST(DocumentSegments, TruncationRemovesTokensOnItsSide) {
  TempDir dir;
  const TokenStore store = make_store(dir, "a", {10, 3, 4});
  EXPECT_EQ(segments_of(store, {4, "truncate", "right"}).ranges,
            (Ranges{{0, 4}, {10, 3}, {13, 4}}));
  EXPECT_EQ(segments_of(store, {4, "truncate", "left"}).ranges, (Ranges{{6, 4}, {10, 3}, {13, 4}}));
}

TEST(DocumentSegments, TheShortPieceOfASplitIsAtTheSidesEnd) {
  TempDir dir;
  const TokenStore store = make_store(dir, "a", {10});
  EXPECT_EQ(segments_of(store, {5, "split", "right"}).ranges, (Ranges{{0, 5}, {4, 5}, {8, 2}}));
  EXPECT_EQ(segments_of(store, {5, "split", "left"}).ranges, (Ranges{{0, 2}, {1, 5}, {5, 5}}));
}

TEST(DocumentSegments, OnEitherSideEveryTargetIsInOnePiece) {
  TempDir dir;
  for (int64_t length = 2; length < 14; ++length) {
    const TokenStore store = make_store(dir, "a", {length});
    for (const char* side : {"right", "left"}) {
      std::vector<int> seen(static_cast<size_t>(length), 0);
      for (const auto& [begin, count] : segments_of(store, {4, "split", side}).ranges) {
        EXPECT_LE(count, 4);
        for (int64_t i = 1; i < count; ++i) ++seen[static_cast<size_t>(begin + i)];
      }
      EXPECT_EQ(seen[0], 0);
      EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), length - 1) << length << side;
    }
  }
}

TEST(DocumentSegments, WhatTruncationLeavesWithoutATargetIsLeftOutAndCounted) {
  TempDir dir;
  const TokenStore store = answer_at_the_end(dir, 20, 3);
  const Segments right = segments_of(store, {8, "truncate", "right"});
  EXPECT_TRUE(right.ranges.empty());
  EXPECT_EQ(right.report.unsupervised, 1);
  EXPECT_EQ(right.report.cut_unsupervised, 1);
  const Segments left = segments_of(store, {8, "truncate", "left"});
  EXPECT_EQ(left.ranges, (Ranges{{12, 8}}));
  EXPECT_EQ(left.report.unsupervised, 0);
}

TEST(DocumentSegments, PiecesWithoutATargetAreLeftOutAndCountedButForEvaluation) {
  TempDir dir;
  const TokenStore store = answer_at_the_end(dir, 20, 3);
  const Segments split = segments_of(store, {8, "split", "right"});
  EXPECT_EQ(split.ranges, (Ranges{{14, 6}}));
  EXPECT_EQ(split.report.unsupervised_pieces, 2);
  EXPECT_EQ(split.report.unsupervised, 0);
  const Segments kept = segments_of(store, {8, "split", "right", /*keep_unsupervised=*/true});
  EXPECT_EQ(kept.ranges.size(), 3u);
  EXPECT_EQ(kept.report.unsupervised_pieces, 0);
}

}  // namespace
}  // namespace sutor
