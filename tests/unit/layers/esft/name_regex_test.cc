// The anchored regular expressions match their names and nothing else.
#include <gtest/gtest.h>

#include <regex>

#include "layers/esft/name_schemes.h"

namespace sutor {
namespace {

TEST(AnchoredRegex, SharesCommonParts) {
  EXPECT_EQ(
      anchored_regex({"layers.1.experts.8.up_proj.weight", "layers.1.experts.26.up_proj.weight",
                      "layers.2.experts.3.up_proj.weight"}),
      "^(layers\\.(1\\.experts\\.(8|26)\\.up_proj\\.weight|2\\.experts\\.3\\.up_proj\\.weight))$");
  EXPECT_EQ(anchored_regex({"a.fc1.weight0", "a.fc1.weight12", "a.fc2.weight0", "a.fc2.weight12"}),
            "^(a\\.fc(1|2)\\.weight(0|12))$");
}

TEST(AnchoredRegex, LongerNumbersLongerNamesAndOtherDotsDoNotMatch) {
  const std::regex regex(anchored_regex({"m.1.w", "m.2.w"}));
  EXPECT_TRUE(std::regex_search("m.1.w", regex));
  for (const char* other :
       {"m.10.w", "m.11.w", "m.21.w", "xm.1.w", "m.1.wx", "mx1.w", "m.1xw", "m.1", "m.1.w.x", ""}) {
    EXPECT_FALSE(std::regex_search(other, regex)) << other;
  }
}

TEST(AnchoredRegex, ANameMayBeTheBeginningOfAnother) {
  const std::regex regex(anchored_regex({"a.b", "a.b.c"}));
  EXPECT_TRUE(std::regex_search("a.b", regex));
  EXPECT_TRUE(std::regex_search("a.b.c", regex));
  EXPECT_FALSE(std::regex_search("a", regex));
  EXPECT_FALSE(std::regex_search("a.b.", regex));
}

TEST(AnchoredRegex, SpecialCharactersStandForThemselves) {
  const std::string name = "a+b(c)[d]{e}|f^g$h*i?j\\k-l/m_n";
  const std::regex regex(anchored_regex({name}));
  EXPECT_TRUE(std::regex_search(name, regex));
  EXPECT_FALSE(std::regex_search("aab(c)[d]{e}|f^g$h*i?j\\k-l/m_n", regex));
}

TEST(AnchoredRegex, NoNamesMatchNothing) {
  const std::regex regex(anchored_regex({}));
  for (const char* text : {"", "a", "a.b", " ", "^$", "model.layers.0"}) {
    EXPECT_FALSE(std::regex_search(text, regex)) << text;
  }
}

}  // namespace
}  // namespace sutor
