// YAML of a recipe or of --set, bounded before it is built: size, depth, number of nodes and length
// of a text. Strange files (a pipe, a text without end, aliases of aliases) end in E0203 at once.
#pragma once

#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <string>

namespace sutor {

// The one mapping that a recipe file holds; an empty file is an empty one. Throws E0203.
YAML::Node load_recipe(const std::filesystem::path& path);

// One document. `where` starts the messages of what has no position, and is put before a position
// too when it is a file. Throws E0203.
YAML::Node parse_yaml(const std::string& text, const std::string& where);

}  // namespace sutor
