// A log file that only grows: what was appended is whole or not there, and sync() makes it survive
// a power cut. Errors are E0501 (disk or quota full) and E0502, naming the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "csrc/base/file.h"

namespace sutor {

class AppendFile {
 public:
  // Opens or makes the file; never follows a symbolic link.
  explicit AppendFile(const std::filesystem::path& path);

  // Writes `record` behind all others. When the disk refuses, the part that it took is cut off
  // again, the record stays in memory, the next append() or sync() tries it again, and this throws.
  void append(std::string_view record);
  // Writes what append() could not, and makes the file durable.
  void sync();
  const std::filesystem::path& path() const { return path_; }

 private:
  void write_pending();

  std::filesystem::path path_;
  FileDescriptor fd_;
  int64_t size_ = 0;
  std::string pending_;
};

}  // namespace sutor
