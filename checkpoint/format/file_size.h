// Checks the sizes of the files that a manifest lists.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace sutor {

struct FileSize {
  std::filesystem::path name;  // relative to the manifest's folder
  int64_t bytes = 0;
};

// What is at `path` instead of a regular file (not a link) of this size: "nothing", "no regular
// file", "12 bytes". Empty when it is as expected.
std::string wrong_size(const std::filesystem::path& path, int64_t expected);

// Throws E0344 naming the file when it is not a regular file of this size.
void check_file_size(const std::filesystem::path& path, int64_t expected);

}  // namespace sutor
