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

TEST(ParseJson, NestsToTheLimitAndNoDeeper) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_EQ(parse_json(nested(128)).problem, "");
  EXPECT_NE(parse_json(nested(129)).problem, "");
  EXPECT_NE(parse_json(std::string(10'000'000, '[')).problem, "");
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_NE(parse_json(objects).problem, "");
}

TEST(ParseJson, HoldsABoundedNumberOfValues) {
  std::string many = "[";
  for (int i = 0; i < 17'000'000; ++i) many += "0,";
  EXPECT_NE(parse_json(many + "0]").problem.find("16,777,216"), std::string::npos);
}

TEST(DumpJson, WritesBytesThatAreNoText) {
  EXPECT_EQ(dump_json(nlohmann::json{{"path", "caf\xe9"}}), "{\"path\":\"caf\uFFFD\"}");
}

}  // namespace
}  // namespace sutor
