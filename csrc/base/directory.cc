#include "csrc/base/directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr mode_t kDirectoryMode = 0777;

bool same_directory(const fs::path& path, const struct stat& expected) {
  struct stat found;
  return ::lstat(path.c_str(), &found) == 0 && found.st_ino == expected.st_ino &&
         found.st_dev == expected.st_dev;
}

// "a symbolic link to x", "a folder", ...
std::string kind_of(const fs::path& path, const struct stat& status) {
  switch (status.st_mode & S_IFMT) {
    case S_IFREG:
      return "a file";
    case S_IFDIR:
      return "a folder";
    case S_IFLNK: {
      std::error_code ignored;
      return "a symbolic link to " + fs::read_symlink(path, ignored).string();
    }
    case S_IFIFO:
      return "a FIFO";
    case S_IFSOCK:
      return "a socket";
    default:
      return "a device";
  }
}

// What a file system answers that does not know a flag of renameat2: NFS, 9p, some FUSE, Lustre.
bool knows_no_flag(int error) { return error == EINVAL || is_not_supported(error); }

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

bool is_name_taken(const fs::path& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

bool is_not_supported(int error) {
  constexpr int kEnotsupp = 524;  // has no name here
  return error == ENOSYS || error == EOPNOTSUPP || error == kEnotsupp;
}

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

namespace {

// `wanted`: what the caller asked for, for messages.
void make_with_parents(const fs::path& name, const fs::path& wanted) {
  struct stat status;
  if (::stat(name.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) return;
    fail_write(wanted, "make directory", ENOTDIR);
  }
  const fs::path parent = parent_of(name);
  if (parent != name && parent != "." && parent != "..") make_with_parents(parent, wanted);
  if (::mkdir(name.c_str(), kDirectoryMode) != 0) {
    // Another process may have made it, or it is a link that leads nowhere.
    if (errno == EEXIST && ::stat(name.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return;
    fail_write(wanted, "make directory", errno);
  }
  // A parent that may be written but not read cannot be opened.
  if (::access(parent.c_str(), R_OK) == 0) fsync_directory(parent);
}

}  // namespace

void make_directory(const fs::path& path) { make_with_parents(without_slash(path), path); }

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
  if (knows_no_flag(error)) {
    // Claim the name with an empty directory, which a plain rename then replaces.
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
  if (!knows_no_flag(errno)) fail_write(to, "rename to", errno);
  const fs::path old =
      parent_of(to) / fmt::format(".trash-{}.{}", to.filename().string(), random_hex());
  if (::rename(to.c_str(), old.c_str()) != 0) fail_write(to, "rename", errno);
  rename_new(from, to);
  fsync_directory(parent_of(to));
  remove_tree(old);
}

unsigned new_directory_mode() {
  // From /proc, since umask() itself would change it for other threads.
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    unsigned mask = 0;
    if (word == "Umask:" && status >> std::oct >> mask) return kDirectoryMode & ~mask;
  }
  const mode_t mask = ::umask(0);
  ::umask(mask);
  return kDirectoryMode & ~mask;
}

void require_plain_file(const fs::path& path) {
  struct stat status;
  if (::lstat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode)) return;
  fail(ErrorCode::kOutputExists,
       "{} is {}, so it is not replaced: an output replaces plain files only. Remove it, or name "
       "another output.",
       path.string(), kind_of(path, status));
}

void require_own_directory(const fs::path& path) {
  struct stat status;
  const fs::path name = without_slash(path);  // a slash would look behind a link
  if (::lstat(name.c_str(), &status) != 0 || S_ISDIR(status.st_mode)) return;
  fail(ErrorCode::kOutputExists,
       "{} is {}; sutor writes there into a folder of its own and follows no link. Remove it, or "
       "choose another output.",
       name.string(), kind_of(name, status));
}

bool lies_within(const fs::path& inner, const fs::path& outer) {
  std::error_code error;
  const fs::path a = fs::weakly_canonical(fs::absolute(inner, error), error) / "";
  const fs::path b = fs::weakly_canonical(fs::absolute(outer, error), error) / "";
  const auto end = std::prev(b.end());  // the empty name behind the last slash
  return std::mismatch(b.begin(), end, a.begin(), a.end()).first == end;
}

fs::path temporary_name(const fs::path& path) {
  return parent_of(path) / fmt::format(".{}.{}.tmp", path.filename().string(), random_hex());
}

void remove_temporaries(const fs::path& folder) {
  static const std::regex name("\\..+\\.[0-9a-f]{16}\\.tmp");
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (!std::regex_match(at->path().filename().string(), name)) continue;
    std::error_code ignored;
    if (fs::is_regular_file(at->symlink_status(ignored))) fs::remove(at->path(), ignored);
  }
}

}  // namespace sutor
