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

TEST(FirstNotUtf8, FindsWhatIsNoText) {
  for (const char* good :
       {"", "abc", "caf\xC3\xA9", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80", "\xEF\xBF\xBD"}) {
    EXPECT_EQ(first_not_utf8(good), std::string_view(good).size()) << good;
  }
  for (const char* bad : {"ab\xe9", "ab\xC3", "ab\xC0\x80", "ab\xED\xA0\x80", "ab\xF4\x90\x80\x80",
                          "ab\x80", "ab\xE0\x80\x80", "ab\xF0\x80\x80\x80", "ab\xFF"}) {
    EXPECT_EQ(first_not_utf8(bad), 2u) << bad;
  }
}

}  // namespace
}  // namespace sutor
