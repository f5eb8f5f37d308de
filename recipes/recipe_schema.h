// The keys of a recipe: name, type, range, and how a value is shown.
#pragma once

#include <yaml-cpp/yaml.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "recipes/recipe.h"

namespace sutor {

struct Field {
  std::string key;  // full name, e.g. "esft.select.top_p"
  // Sets the node's value in the recipe. Returns "" or what was expected ("a number above 0").
  std::function<std::string(const YAML::Node&, Recipe&)> read;
  // The value as YAML on one line.
  std::function<std::string(Recipe&)> show;
};

// Every key but those of data sources, in the order in which a recipe is printed.
const std::vector<Field>& recipe_fields();
const Field* find_field(std::string_view key);
// Keys of an item of data.train or data.eval ("path", "format" ...).
const std::vector<std::string>& source_keys(std::string_view list);
// Sets one key of a data source; as Field::read.
std::string read_source_key(std::string_view key, const YAML::Node& node, DataSource& source);

// "data.train[3].path", or "data.train[3]" with an empty key.
struct SourceKey {
  std::string list;  // data.train or data.eval
  size_t index = 0;
  std::string key;
};
// Nothing when `name` is none; the key need not be a known one.
std::optional<SourceKey> parse_source_key(std::string_view name);

// Whether `key` is a mapping of keys ("esft", "esft.select"), or the list data.train or data.eval.
bool is_section(std::string_view key);
bool is_source_list(std::string_view key);
// Names directly under a section ("" = the top), in order.
std::vector<std::string> keys_under(std::string_view section);

}  // namespace sutor
