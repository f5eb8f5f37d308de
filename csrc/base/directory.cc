#include "csrc/base/directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr mode_t kDirectoryMode = 0750;

bool same_directory(const fs::path& path, const struct stat& expected) {
  struct stat found;
  return ::lstat(path.c_str(), &found) == 0 && found.st_ino == expected.st_ino &&
         found.st_dev == expected.st_dev;
}

[[noreturn]] void fail_exists(const fs::path& path) {
  fail(ErrorCode::kOutputExists, "{} exists already. Remove it or name another output.",
       path.string());
}

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

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

void make_directory(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail_write(path, "make directory", error.value());
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail_write(path, "remove", error.value());
}

void rename_new(const fs::path& from, const fs::path& to) {
  struct stat source;
  if (::lstat(from.c_str(), &source) != 0) fail_write(from, "find", errno);
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return;
  int error = errno;
  if (error == EINVAL || error == ENOSYS || error == EOPNOTSUPP) {
    // NFS, 9p and some FUSE do not know the flag: claim the name with an empty directory, which a
    // plain rename then replaces.
    if (::mkdir(to.c_str(), 0700) != 0) {
      if (errno == EEXIST) fail_exists(to);
      fail_write(to, "make directory", errno);
    }
    if (::rename(from.c_str(), to.c_str()) == 0) return;
    error = errno;
    if (error != ENOENT) ::rmdir(to.c_str());
  }
  // A network file system that repeats a rename whose answer was lost says that nothing is there.
  if (error == ENOENT && same_directory(to, source)) return;
  if (error == EEXIST || error == ENOTEMPTY) fail_exists(to);
  fail_write(to, "rename to", error);
}

void replace_directory(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    fsync_directory(parent_of(to));
    remove_tree(from);
    return;
  }
  if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) fail_write(to, "rename to", errno);
  const fs::path old =
      parent_of(to) / fmt::format(".trash-{}.{}", to.filename().string(), random_hex());
  if (::rename(to.c_str(), old.c_str()) != 0) fail_write(to, "rename", errno);
  rename_new(from, to);
  fsync_directory(parent_of(to));
  remove_tree(old);
}

unsigned new_directory_mode() {
  const mode_t mask = ::umask(0);
  ::umask(mask);
  return kDirectoryMode & ~mask;
}

StagedDirectory::StagedDirectory(const fs::path& final_path) : final_(without_slash(final_path)) {
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(final_, ignored))) fail_exists(final_);
  make_directory(parent_of(final_));
  staging_ =
      parent_of(final_) / fmt::format(".staging-{}.{}", final_.filename().string(), random_hex());
  if (::mkdir(staging_.c_str(), kDirectoryMode) != 0) {
    fail_write(staging_, "make directory", errno);
  }
  // What the umask left of the mode is what the published directory will have.
  struct stat status;
  if (::stat(staging_.c_str(), &status) != 0) fail_write(staging_, "make directory", errno);
  published_mode_ = status.st_mode & 07777;
  if (::chmod(staging_.c_str(), 0700) != 0) fail_write(staging_, "set mode of", errno);
}

StagedDirectory::~StagedDirectory() {
  if (published_) return;
  std::error_code ignored;
  fs::remove_all(staging_, ignored);
}

void StagedDirectory::publish() {
  std::error_code error;
  fs::recursive_directory_iterator at(staging_, error);
  for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
    const fs::file_status status = at->symlink_status(error);
    if (error) break;
    if (fs::is_directory(status)) fsync_directory(at->path());
    if (fs::is_regular_file(status)) fsync_path(at->path());
  }
  if (error) fail_write(staging_, "list", error.value());
  if (::chmod(staging_.c_str(), published_mode_) != 0) fail_write(staging_, "set mode of", errno);
  fsync_directory(staging_);
  rename_new(staging_, final_);
  published_ = true;
  fsync_directory(parent_of(final_));
}

}  // namespace sutor
