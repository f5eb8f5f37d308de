#include "launch/log/append_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "csrc/base/directory.h"

namespace sutor {
namespace {

constexpr mode_t kFileMode = 0666;  // less the umask

}  // namespace

AppendFile::AppendFile(const std::filesystem::path& path) : path_(path) {
  make_directory(parent_of(path));
  fd_ = FileDescriptor(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, kFileMode));
  if (fd_.get() < 0) fail_write(path, "open", errno);
  struct stat status;
  if (::fstat(fd_.get(), &status) != 0) fail_write(path, "open", errno);
  if (!S_ISREG(status.st_mode)) fail_write(path, "append to", EINVAL);
  size_ = status.st_size;
  fsync_directory(parent_of(path));
}

void AppendFile::append(std::string_view record) {
  pending_ += record;
  write_pending();
}

void AppendFile::write_pending() {
  size_t done = 0;
  while (done < pending_.size()) {
    const ssize_t n = ::pwrite(fd_.get(), pending_.data() + done, pending_.size() - done,
                               size_ + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error = n < 0 ? errno : EIO;
      // Half a record would be in the way of the next one. If cutting fails as well, it is
      // overwritten by the next try, or dropped by whoever reads the file.
      [[maybe_unused]] const int ignored = ::ftruncate(fd_.get(), size_);
      fail_write(path_, "append to", error, static_cast<int64_t>(pending_.size()));
    }
    done += static_cast<size_t>(n);
  }
  size_ += static_cast<int64_t>(pending_.size());
  pending_.clear();
}

void AppendFile::sync() {
  write_pending();
  if (::fsync(fd_.get()) != 0) fail_write(path_, "fsync", errno);
}

}  // namespace sutor
