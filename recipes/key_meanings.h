// What every key of a recipe means, in one table: for the comments of `init`, for `config`, and for
// the reference. Types and defaults are the schema's own.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sutor {

struct KeyMeaning {
  std::string_view key;   // "esft.select.top_p"; of data sets "data.train[].path"
  std::string_view unit;  // "tokens"; empty where the value has none
  std::string_view meaning;
};

// One a key of recipe_fields() and of data sets, in the order in which a recipe is printed.
std::span<const KeyMeaning> key_meanings();
// Nothing (null) when there is no such key.
const KeyMeaning* find_meaning(std::string_view key);

struct KeyReference {
  std::string key, type, value, unit, meaning;  // value: the default, as YAML; "required"
};
// The whole table with the schema's types ("a whole number of at least 1") and defaults.
std::vector<KeyReference> key_reference();

}  // namespace sutor
