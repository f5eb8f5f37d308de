#include "launch/data/rows/row_files.h"

#include <glob.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <span>
#include <string_view>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/data/rows/sha256.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr std::array<std::string_view, 7> kRows = {".jsonl", ".ndjson", ".json",   ".csv",
                                                   ".tsv",   ".pq",     ".parquet"};
constexpr std::array<std::string_view, 3> kPacked = {".gz", ".zst", ".zstd"};
// Of the names of a set's files: an argument of a program has at most 128 KiB.
constexpr size_t kMostNames = 96 << 10;
constexpr int kMostLevels = 32;  // of folders in folders

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

bool is_named_as_rows(const fs::path& path) {
  fs::path name = lower(path.filename().string());
  if (std::count(kPacked.begin(), kPacked.end(), name.extension().string())) name = name.stem();
  return std::count(kRows.begin(), kRows.end(), name.extension().string()) > 0;
}

// Links to files are followed, links to folders are not: they may lead back.
void add_files_of(const fs::path& folder, int level, std::vector<fs::path>& files) {
  for (const fs::path& entry : entries_of(folder)) {
    const std::string name = entry.filename().string();
    if (name.starts_with('.') || name.starts_with('_')) continue;
    std::error_code ignored;
    const bool is_link = fs::is_symlink(fs::symlink_status(entry, ignored));
    if (is_folder(entry)) {
      if (!is_link && level < kMostLevels) add_files_of(entry, level + 1, files);
    } else if (is_named_as_rows(entry) && is_file(entry)) {
      files.push_back(entry);
    }
  }
}

std::vector<fs::path> matches_of(const std::string& pattern) {
  std::vector<fs::path> files;
  glob_t found{};
  if (::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found) == 0) {
    for (size_t i = 0; i < found.gl_pathc; ++i) {
      if (is_file(found.gl_pathv[i])) files.emplace_back(found.gl_pathv[i]);
    }
  }
  ::globfree(&found);
  return files;
}

}  // namespace

std::vector<fs::path> row_files(const fs::path& path) {
  if (is_there(path) && !is_folder(path)) return {path};
  std::vector<fs::path> files;
  if (is_folder(path)) {
    add_files_of(path, 0, files);
  } else {
    files = matches_of(path.string());
  }
  std::sort(files.begin(), files.end(),
            [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return files;
}

std::string row_files_digest(const fs::path& path, const std::vector<fs::path>& files,
                             const std::function<std::string(const fs::path&)>& sha256) {
  if (files.size() == 1 && files[0] == path) return sha256(path);
  const bool folder = is_folder(path);
  Sha256 digest;
  for (const fs::path& file : files) {
    const std::string hex = sha256(file).substr(std::string_view("sha256:").size());
    const fs::path name = folder ? file.lexically_relative(path) : file.filename();
    const std::string line = hex + "  " + name.string() + "\n";
    digest.update(std::as_bytes(std::span(line)));
  }
  return digest.text();
}

nlohmann::json row_columns(const RowColumns& named) {
  nlohmann::json columns = nlohmann::json::object();
  for (const auto& [name, column] : named) {
    columns[name] = column ? nlohmann::json(*column) : nlohmann::json();
  }
  return columns;
}

nlohmann::json row_file_names(const fs::path& path) {
  const std::vector<fs::path> files = row_files(path);
  // The script says what it is that cannot be read.
  if (files.empty() && !is_folder(path)) return {path.string()};
  if (files.empty()) {
    fail(
        ErrorCode::kUnreadableData,
        "{} is a folder that holds no rows: no file of .jsonl, .json, .csv, .tsv or .parquet, also "
        "with .gz or .zst",
        path.string());
  }
  nlohmann::json names = nlohmann::json::array();
  size_t bytes = 0;
  for (const auto& file : files) bytes += names.emplace_back(file.string()).dump().size() + 1;
  if (bytes > kMostNames) {
    fail(
        ErrorCode::kUnreadableData,
        "{} names {} files, and their names have {} bytes together; at most {} can be given to the "
        "script. Name several data sets, or put the rows into fewer files",
        path.string(), files.size(), bytes, kMostNames);
  }
  return names;
}

}  // namespace sutor
