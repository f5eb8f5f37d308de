// Both ways to divide a run of indices: they cover it in order, and differ in where the longer runs
// are.
#include "csrc/base/index_range.h"

#include <gtest/gtest.h>

#include <vector>

namespace sutor {
namespace {

std::vector<int64_t> sizes(IndexRange (*divide)(int64_t, int64_t, int64_t), int64_t total,
                           int64_t count) {
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < count; ++i) sizes.push_back(divide(total, i, count).size());
  return sizes;
}

TEST(IndexRange, BothWaysCoverTheTotalInOrderWithNearEqualRuns) {
  for (const auto divide : {spread_range, leading_range}) {
    for (const int64_t count : {1, 2, 3, 4, 7}) {
      for (const int64_t total : {0, 1, 5, 8}) {
        int64_t next = 0;
        for (int64_t i = 0; i < count; ++i) {
          const IndexRange run = divide(total, i, count);
          EXPECT_EQ(run.begin, next);
          EXPECT_GE(run.size(), total / count);
          EXPECT_LE(run.size(), (total + count - 1) / count);
          next = run.end;
        }
        EXPECT_EQ(next, total);
      }
    }
  }
}

TEST(IndexRange, LongerRunsAreSpreadOrComeFirst) {
  EXPECT_EQ(sizes(spread_range, 5, 3), (std::vector<int64_t>{1, 2, 2}));
  EXPECT_EQ(sizes(leading_range, 5, 3), (std::vector<int64_t>{2, 2, 1}));
  EXPECT_EQ(sizes(spread_range, 2, 4), (std::vector<int64_t>{0, 1, 0, 1}));
  EXPECT_EQ(sizes(leading_range, 2, 4), (std::vector<int64_t>{1, 1, 0, 0}));
}

TEST(IndexRange, BothWaysAgreeWhenTheCountDivides) {
  for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(spread_range(12, i, 4), leading_range(12, i, 4));
}

}  // namespace
}  // namespace sutor
