// README.md's table of recipe keys says what the schema says: the same keys, the same defaults.
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>

#include "recipes/recipe_schema.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

const std::filesystem::path kReadme =
    std::filesystem::path(SUTOR_TEST_DATA).parent_path() / "README.md";

// The cell without what stands in parentheses.
std::string without_asides(const std::string& cell) {
  std::string text;
  int depth = 0;
  for (const char c : cell) {
    depth += c == '(';
    if (depth == 0) text += c;
    depth -= c == ')';
  }
  return text;
}

// "`a: 1`, `b: [1, 2]`: more about `b`" -> "a: 1", "b: [1, 2]": what each item begins with in code.
std::vector<std::string> items_of(const std::string& cell) {
  std::vector<std::string> items;
  bool in_code = false, expected = true;
  for (const char c : without_asides(cell)) {
    if (c == '`') {
      in_code = !in_code;
      if (in_code && expected) items.emplace_back();
      if (!in_code) expected = false;
    } else if (in_code) {
      if (expected) items.back() += c;
    } else if (c == ',') {
      expected = true;
    }
  }
  return items;
}

// Full key -> the default that the table gives, where it gives one.
std::map<std::string, std::optional<std::string>> table() {
  const std::string readme = testing::TempDir().read(kReadme);
  const size_t begin = readme.find("\n| section | keys |\n");
  std::map<std::string, std::optional<std::string>> keys;
  if (begin == std::string::npos) return keys;
  std::istringstream lines(readme.substr(begin + 1));
  for (std::string line; std::getline(lines, line) && line.starts_with('|');) {
    const size_t close = line.find("` | ");
    if (!line.starts_with("| `") || close == std::string::npos) continue;
    const std::string section = line.substr(3, close - 3);
    if (find_field(section)) {  // no section but a key: the cell is about its value
      keys[section] = std::nullopt;
      continue;
    }
    for (const std::string& item : items_of(line.substr(close + 4))) {
      const size_t colon = item.find(": ");
      std::optional<std::string>& value = keys[section + "." + item.substr(0, colon)];
      if (colon != std::string::npos) value = item.substr(colon + 2);
    }
  }
  return keys;
}

bool is_same_value(const YAML::Node& a, const YAML::Node& b) {
  if (a.IsSequence() || b.IsSequence()) {
    if (!a.IsSequence() || !b.IsSequence() || a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); ++i) {
      if (!is_same_value(a[i], b[i])) return false;
    }
    return true;
  }
  double x = 0, y = 0;
  if (YAML::convert<double>::decode(a, x) && YAML::convert<double>::decode(b, y)) return x == y;
  return a.Scalar() == b.Scalar();
}

TEST(ReadmeTable, EveryKeyOfTheTableIsInTheSchema) {
  ASSERT_GE(table().size(), 60u);
  for (const auto& [key, value] : table()) {
    EXPECT_TRUE(find_field(key) || is_source_list(key)) << key;
  }
}

TEST(ReadmeTable, EveryKeyOfTheSchemaIsInTheTable) {
  const auto keys = table();
  for (const Field& field : recipe_fields()) {
    EXPECT_TRUE(keys.count(field.key)) << field.key;
  }
}

TEST(ReadmeTable, DefaultsAreThoseOfTheSchema) {
  Recipe defaults;
  int compared = 0;
  for (const auto& [key, value] : table()) {
    const Field* field = find_field(key);
    if (!field) continue;
    const std::string shown = field->show(defaults);
    if (!value) {
      // `auto` is explained beside its key.
      EXPECT_TRUE(shown == "null" || shown == "\"\"" || shown == "auto") << key << ": " << shown;
    } else if (value->find('<') == std::string::npos) {  // `<set>.loss` depends on the recipe
      EXPECT_TRUE(is_same_value(YAML::Load(*value), YAML::Load(shown)))
          << key << ": " << *value << " in the table, " << shown << " in the schema";
      ++compared;
    }
  }
  EXPECT_GE(compared, 45);
}

}  // namespace
}  // namespace sutor
