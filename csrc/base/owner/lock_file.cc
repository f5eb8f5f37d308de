#include "csrc/base/owner/lock_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"

namespace sutor {
namespace {

constexpr size_t kMostRecord = 4096;

// Everything but "somebody has it": file systems say in many ways that they keep no locks (ENOLCK,
// ENOTSUP, ENOSYS, EROFS, EINVAL, EPERM, EIO, 524).
bool has_no_locks(int error) { return error != 0 && error != EWOULDBLOCK; }

std::string record_in(int fd) {
  std::string text(kMostRecord, '\0');
  const ssize_t count = ::pread(fd, text.data(), text.size(), 0);
  text.resize(count > 0 ? static_cast<size_t>(count) : 0);
  return text;
}

// The file may have been released, and so removed, between opening and locking it.
bool is_named(int fd, const std::filesystem::path& path) {
  struct stat opened, named;
  return ::fstat(fd, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

FileDescriptor open_lock(const std::filesystem::path& path) {
  require_plain_file(path);
  FileDescriptor fd(
      ::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666));
  if (fd.get() < 0) fail_write(path, "open", errno);
  return fd;
}

}  // namespace

int flock_at_once(int fd) {
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

LockFile::LockFile(std::filesystem::path path, std::string guarded, const LockSettings& settings)
    : path_(std::move(path)), guarded_(std::move(guarded)) {
  const auto until = std::chrono::steady_clock::now() + settings.patience;
  while (!take(settings)) {
    const auto holder = parse_owner(record_in(fd_.get()));
    const bool alive = holder && state_of(*holder) == OwnerState::kAlive;
    if (alive || std::chrono::steady_clock::now() > until) fail_busy(guarded_, holder);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

// False when another process has it.
bool LockFile::take(const LockSettings& settings) {
  for (;;) {
    fd_ = open_lock(path_);
    const int error = settings.try_lock(fd_.get());
    if (has_no_locks(error)) {
      lease_ = std::make_unique<Lease>(path_, guarded_, settings.lease);
      taken_over_ = lease_->taken_over();
      return true;
    }
    if (error == EWOULDBLOCK) return false;
    if (is_named(fd_.get(), path_)) break;
  }
  taken_over_ = parse_owner(record_in(fd_.get()));
  const std::string record = to_json(this_process());
  if (::ftruncate(fd_.get(), 0) != 0) fail_write(path_, "write", errno);
  if (::pwrite(fd_.get(), record.data(), record.size(), 0) < 0) fail_write(path_, "write", errno);
  return true;
}

LockFile::~LockFile() {
  // While it is still ours; the folder may have been deleted under us, and made again by others.
  if (!lease_ && is_named(fd_.get(), path_)) ::unlink(path_.c_str());
}

}  // namespace sutor
