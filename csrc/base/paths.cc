#include "csrc/base/paths.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "csrc/base/error.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void fail_question(const fs::path& path, const std::string& why) {
  fail(ErrorCode::kUnreadableFile, "cannot look at {}: {}", path.string(), why);
}

// The kind of what the path leads to; 0 when nothing is there.
mode_t kind_at(const fs::path& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) == 0) return status.st_mode & S_IFMT;
  if (errno == ENOENT || errno == ENOTDIR) return 0;
  fail_question(path, std::strerror(errno));
}

}  // namespace

bool is_there(const fs::path& path) { return kind_at(path) != 0; }
bool is_file(const fs::path& path) { return kind_at(path) == S_IFREG; }
bool is_folder(const fs::path& path) { return kind_at(path) == S_IFDIR; }

std::string file_objection(const fs::path& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return "does not exist";
    return fmt::format("cannot be read: {}", std::strerror(errno));
  }
  switch (status.st_mode & S_IFMT) {
    case S_IFREG:
      if (::access(path.c_str(), R_OK) == 0) return "";
      return fmt::format("cannot be read: {}", std::strerror(errno));
    case S_IFDIR:
      return "is a directory, not a regular file";
    case S_IFIFO:
      return "is a pipe (a FIFO, or `<(...)` of a shell), not a regular file; inputs are read more "
             "than once and at offsets, so save it to a file first";
    case S_IFSOCK:
      return "is a socket, not a regular file";
    default:
      return "is a device, not a regular file";
  }
}

int64_t bytes_of(const fs::path& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) fail_question(path, std::strerror(errno));
  if (!S_ISREG(status.st_mode)) {
    fail(ErrorCode::kUnreadableFile, "{} {}", path.string(), file_objection(path));
  }
  return status.st_size;
}

std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  fs::directory_iterator at(folder, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    entries.push_back(at->path());
  }
  if (error) {
    fail(ErrorCode::kUnreadableFile, "cannot list {}: {}", folder.string(), error.message());
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

fs::path real_path(const fs::path& path) {
  std::error_code error;
  fs::path found = fs::weakly_canonical(path, error);
  if (error) fail_question(path, error.message());
  return found;
}

}  // namespace sutor
