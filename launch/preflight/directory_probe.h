// What the file system of a folder allows and can do, tried out there before anything depends on
// it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace sutor {

struct DirectoryProbe {
  std::string file_system;         // "ext4", or its number where the name is not known
  std::vector<std::string> lacks;  // features that have a fallback: "flock", ...
  int64_t free_bytes = -1;         // for this user; -1: the file system does not say
  double seconds_ahead = 0;        // its clock, compared with this host's
};

// Makes, renames, fsyncs and removes a file and a folder in `directory`, which must exist. Throws
// E0501 or E0502 naming what is not allowed. A probe that was killed is cleared away by a later
// one.
DirectoryProbe probe_directory(const std::filesystem::path& directory);

}  // namespace sutor
