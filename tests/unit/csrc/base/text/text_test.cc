// Shapes, lists with commas, random names.
#include "csrc/base/text/text.h"

#include <gtest/gtest.h>

namespace sutor {
namespace {

using Texts = std::vector<std::string>;

TEST(ShapeText, StandsInBrackets) {
  EXPECT_EQ(shape_text(std::vector<int64_t>{2, 3}), "[2, 3]");
  EXPECT_EQ(shape_text(std::vector<int64_t>{7}), "[7]");
  EXPECT_EQ(shape_text({}), "[]");
}

TEST(SplitAtCommas, KeepsEveryItemAsItStands) {
  EXPECT_EQ(split_at_commas("a,b"), (Texts{"a", "b"}));
  EXPECT_EQ(split_at_commas("a, b"), (Texts{"a", " b"}));
  EXPECT_EQ(split_at_commas("a"), Texts{"a"});
}

TEST(SplitAtCommas, EmptyItemsCount) {
  EXPECT_EQ(split_at_commas(""), Texts{""});
  EXPECT_EQ(split_at_commas("a,,b,"), (Texts{"a", "", "b", ""}));
}

TEST(RandomHex, HasEightDigitsAWordAndDiffers) {
  EXPECT_EQ(random_hex().size(), 16u);
  EXPECT_EQ(random_hex(4).size(), 32u);
  EXPECT_EQ(random_hex(4).find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_NE(random_hex(), random_hex());
}

}  // namespace
}  // namespace sutor
