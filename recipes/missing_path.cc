#include "recipes/missing_path.h"

#include <fmt/format.h>

#include <filesystem>

#include "csrc/base/directory.h"

namespace sutor {
namespace fs = std::filesystem;

std::string missing_path_text(const std::string& path, const Recipe& recipe) {
  std::string text = path + " does not exist";
  if (path.starts_with("~")) {
    return text + ": of `~` only a leading `~/` is replaced, by ${HOME}. Write the whole path";
  }
  std::error_code error;
  const fs::path start = fs::current_path(error);
  if (error || fs::path(path).is_absolute()) return text;
  text +=
      fmt::format(". Paths of a recipe are relative to the folder in which sutor is started, {}",
                  start.string());
  const fs::path folder = parent_of(recipe.file);
  if (!is_file(recipe.file) || !is_there(folder / path)) return text;
  return text + fmt::format("; there is {}: start it in {}, or write the whole path",
                            (folder / path).string(), folder.string());
}

}  // namespace sutor
