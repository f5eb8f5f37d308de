// The files of rows that a data set's path names: one, those that a glob matches, or those of a
// folder. The Python steps are told; tools/sutor_rows/reader.py computes the same digest.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "recipes/recipe.h"

namespace sutor {

// In the order of the bytes of their names; none when nothing is there. A path that is there as it
// is written is no glob. Of a folder, and of the folders in it, the files whose names end as those
// of rows do (.jsonl, .json, .csv, .parquet, also with .gz or .zst), but for names that begin with
// a dot or an underscore. Throws E0301 for a folder that cannot be listed.
std::vector<std::filesystem::path> row_files(const std::filesystem::path& path);

// "sha256:...": of a file its own, of a glob or a folder that of lines of "<sha256>  <name>". So a
// file that is changed, added, taken away or renamed is seen. `sha256` is that of a file, with
// "sha256:" before it.
std::string row_files_digest(
    const std::filesystem::path& path, const std::vector<std::filesystem::path>& files,
    const std::function<std::string(const std::filesystem::path&)>& sha256);

// For a script's job: the files by name (of a path that names none, itself: the script says why),
// and the columns. Throw E0331 when a folder holds no rows, or so many files that a script cannot
// be told their names.
nlohmann::json row_file_names(const std::filesystem::path& path);
nlohmann::json row_columns(const RowColumns& columns);

}  // namespace sutor
