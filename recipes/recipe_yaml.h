// A recipe as flat keys, from files and what they inherit, --set and ${NAME}; all keys are known
// ones.
#pragma once

#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace sutor {

struct RecipeValue {
  YAML::Node node;    // a scalar or a list of scalars, ${NAME} replaced
  std::string where;  // "my.yaml:14:3" or "--set optim.lr"
};

// Keys by full name; items of source lists as "data.train[0].path". Later values win.
using RecipeValues = std::map<std::string, RecipeValue>;

// Throws E0201, E0203, E0205 (not a mapping or list where one is expected), E0207, E0208, E0209.
RecipeValues read_recipe_values(const std::filesystem::path& path,
                                const std::vector<std::string>& sets);

// Of --set alone, without a file.
RecipeValues recipe_values_of(const std::vector<std::string>& sets);

}  // namespace sutor
