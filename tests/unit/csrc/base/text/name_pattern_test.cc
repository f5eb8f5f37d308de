// Patterns of strangers are used, or refused with a reason, in time.
#include "csrc/base/text/name_pattern.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace sutor {
namespace {

constexpr const char* kName = "model.layers.12.mlp.experts.37.up_proj.weight";

TEST(NamePattern, MatchesWholeNames) {
  EXPECT_TRUE(NamePattern(R"(model\.layers\.(1[0-5])\..*)").matches(kName));
  EXPECT_TRUE(NamePattern(R"(model\.(?!norm).*weight)").matches(kName));
  EXPECT_FALSE(NamePattern("layers").matches(kName));
  EXPECT_FALSE(NamePattern(R"(^(\b\B)$)").matches(kName));
}

TEST(NamePattern, PatternsWithoutEndAreRefused) {
  for (const std::string& pattern :
       {std::string(100000, 'a'), fmt::format("{:(>5000}a{:)>5000}", "", ""),
        std::string("(((a{1000}){1000}){1000})"), std::string("("), std::string("[z-a]")}) {
    NamePattern used(pattern);
    EXPECT_FALSE(used.problem().empty()) << pattern.substr(0, 40);
    EXPECT_FALSE(used.matches(kName));
  }
}

TEST(NamePattern, NoPatternTakesExponentialTime) {
  NamePattern used("(e+e+)+y");
  EXPECT_FALSE(used.matches(std::string(500, 'e')));
  EXPECT_EQ(used.problem(), "");
  EXPECT_FALSE(NamePattern(".*").matches(std::string(100000, 'x')));  // and no deep recursion
}

}  // namespace
}  // namespace sutor
