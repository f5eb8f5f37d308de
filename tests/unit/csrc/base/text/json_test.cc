// JSON whose repeated keys are told.
#include "csrc/base/text/json.h"

#include <gtest/gtest.h>

namespace sutor {
namespace {

TEST(ParseJson, ReturnsTheValue) {
  const ParsedJson parsed = parse_json(R"({"a": [1, {"a": 2}], "b": {"a": 3}})");
  EXPECT_EQ(parsed.value["a"][1]["a"], 2);
  EXPECT_EQ(parsed.problem, "");
  EXPECT_FALSE(parsed.repeated_key);  // `a` stands in three objects, once in each
}

TEST(ParseJson, TellsTheFirstKeyThatStandsTwiceInAnObject) {
  EXPECT_EQ(parse_json(R"({"a": 1, "b": {"c": 1, "c": 2}, "a": 3})").repeated_key, "c");
  EXPECT_EQ(parse_json(R"([{"a": 1}, {"a": 1, "a": 1}])").repeated_key, "a");
}

TEST(ParseJson, TellsARepeatedKeyOfATextThatIsNotJson) {
  const ParsedJson parsed = parse_json(R"({"a": 1, "a": 2, )");
  EXPECT_EQ(parsed.repeated_key, "a");
  EXPECT_NE(parsed.problem, "");
}

TEST(ParseJson, SaysWhyATextIsNotJson) {
  const ParsedJson parsed = parse_json("{\"a\": }");
  EXPECT_TRUE(parsed.value.is_discarded());
  EXPECT_FALSE(parsed.value.is_object());
  EXPECT_NE(parsed.problem.find("column 7"), std::string::npos) << parsed.problem;
}

}  // namespace
}  // namespace sutor
