// What is said of a path in a recipe where nothing is: what it is relative to.
#pragma once

#include <string>

#include "recipes/recipe.h"

namespace sutor {

// "rows.jsonl does not exist. Paths of a recipe are relative to the folder in which sutor is
// started, /home/me; beside the recipe there is one: start it in /home/me/recipes, or write the
// whole path".
std::string missing_path_text(const std::string& path, const Recipe& recipe);

}  // namespace sutor
