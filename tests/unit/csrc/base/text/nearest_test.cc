// The nearest word, for messages about unknown keys.
#include "csrc/base/text/nearest.h"

#include <gtest/gtest.h>

namespace sutor {
namespace {

TEST(Nearest, DistanceCountsInsertionsDeletionsAndSubstitutions) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("topp", "top_p"), 1u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
}

TEST(Nearest, TheClosestCandidateIsNamedTheFirstOfEquals) {
  EXPECT_EQ(nearest("topp", {"top_k", "top_p", "tops"}), "top_p");
  EXPECT_EQ(nearest("x", {"a", "b"}), "a");
  EXPECT_EQ(nearest("x", {}), "");
}

}  // namespace
}  // namespace sutor
