// YAML that is none: each fault is named where it is, with its remedy.
#include <gtest/gtest.h>

#include <string>

#include "csrc/base/error.h"
#include "recipes/recipe_reader.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::TempDir;

struct Fault {
  const char* text;
  const char* place;  // "4:1"
  const char* words;
};

constexpr Fault kFaults[] = {
    {"model:\n\tpath: m\noutput: o\n", "2:1", "a tab indents the line"},
    {"model:\n  path: m\n \tdtype: fp32\noutput: o\n", "3:2", "a tab indents the line"},
    {"model:\n  path: m\n   dtype: fp32\noutput: o\n", "3:4", "indented by 3 spaces"},
    {"model:\n    path: m\n  dtype: fp32\noutput: o\n", "3:3", "indented by 2 spaces"},
    {"model: {path: \"m}\noutput: o\n", "1:15", "a quote \" begins here"},
    {"model: {path: 'm}\noutput: o\n", "1:15", "a quote ' begins here"},
    {"model: {path: m\noutput: o\n", "1:8", "a `{` begins here and no `}` ends it"},
    {"model: {path: m}\nesft: {also_train: [a, b}\noutput: o\n", "2:20", "a `[` begins here"},
    {"model: {path: m}\noptim:\n  lr:1e-5\n  clip: 1\noutput: o\n", "3:5",
     "a space is missing behind the colon"},
    {"model: {path: m}\noptim:\n  clip: 1\n  lr:1e-5\noutput: o\n", "4:5",
     "a space is missing behind the colon"},
    {"model: {path: m}\nesft:\n  also_train: [*.gate]\noutput: o\n", "3:16", "quotes"},
    {"model: {path: m}\nesft:\n  config: @mine\noutput: o\n", "3:11", "cannot begin with `@`"},
    {"model: {path: m}\noutput: a: b\n", "2:", "a second `: ` on the line"},
    {"model: {path: \"C:\\models\\q\"}\noutput: o\n", "1:", "single quotes"},
    {"model: {path: m}\n<<<<<<< HEAD\noutput: o\n=======\noutput: p\n>>>>>>> other\n", "2:1",
     "a mark of git's"},
};

std::string report(const std::string& text) {
  TempDir dir;
  const std::string path = dir.write("my.yaml", text);
  try {
    read_recipe(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnreadableRecipe) << error.what();
    return std::string(error.what()).substr(path.size() - std::string("my.yaml").size());
  }
  ADD_FAILURE() << "is read: " << text;
  return "";
}

TEST(YamlFaults, AreNamedWithTheirPlaceAndRemedy) {
  for (const Fault& fault : kFaults) {
    const std::string got = report(fault.text);
    EXPECT_TRUE(got.starts_with(std::string("my.yaml:") + fault.place)) << fault.text << got;
    EXPECT_NE(got.find(fault.words), std::string::npos) << fault.text << got;
  }
}

TEST(YamlFaults, WindowsLineEndsAndAByteOrderMarkAreNone) {
  TempDir dir;
  const std::string text = "\xef\xbb\xbfmodel:\r\n  path: m\r\n  dtype: fp32\r\noutput: o\r\n";
  const Recipe recipe = read_recipe(dir.write("my.yaml", text));
  EXPECT_EQ(recipe.model.path, "m");
  EXPECT_EQ(recipe.output, "o");
}

TEST(YamlFaults, ARecipeThatIsOneTextLacksSpaces) {
  EXPECT_NE(report("output:o\n").find("write `key: value`"), std::string::npos);
}

}  // namespace
}  // namespace sutor
