#include "csrc/base/file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/process/mapped_ranges.h"
#include "csrc/base/process/progress.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

// Linux moves at most this many bytes in one call.
constexpr size_t kMaxTransfer = size_t{1} << 30;

[[noreturn]] void fail_read(const fs::path& path, int error) {
  if (error == ENOENT) fail(ErrorCode::kUnreadableFile, "{} does not exist", path.string());
  fail(ErrorCode::kUnreadableFile, "cannot read {}: {}", path.string(), std::strerror(error));
}

// Opens a regular file and nothing else: a pipe or a device in its place is refused at once instead
// of being waited for or read without end.
FileDescriptor open_for_reading(const fs::path& path, int64_t* size) {
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NOCTTY;
  FileDescriptor fd(::open(path.c_str(), kFlags | O_NONBLOCK));
  const int error = fd.get() < 0 ? errno : 0;
  struct stat status;
  const bool known =
      fd.get() < 0 ? ::stat(path.c_str(), &status) == 0 : ::fstat(fd.get(), &status) == 0;
  if (known && !S_ISREG(status.st_mode)) {
    fail(ErrorCode::kUnreadableFile, "{} {}", path.string(), file_objection(path));
  }
  // Somebody holds a lease, which only an open that may wait breaks.
  if (known && error == EWOULDBLOCK) fd = FileDescriptor(::open(path.c_str(), kFlags));
  if (!known || fd.get() < 0) fail_read(path, error != 0 ? error : errno);
  if (::fcntl(fd.get(), F_SETFL, 0) != 0) fail_read(path, errno);
  *size = status.st_size;
  return fd;
}

FileDescriptor create_file(const fs::path& path, mode_t mode) {
  FileDescriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
  if (fd.get() < 0) fail_write(path, "create", errno);
  return fd;
}

void fsync_and_close(FileDescriptor& fd, const fs::path& path, int64_t bytes) {
  if (::fsync(fd.get()) != 0) fail_write(path, "fsync", errno, bytes);
  if (fd.close() != 0) fail_write(path, "close", errno, bytes);
}

void write_all(int fd, const fs::path& path, int64_t offset, std::span<const std::byte> bytes) {
  const int64_t wanted = static_cast<int64_t>(bytes.size());
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd, bytes.data(), std::min(bytes.size(), kMaxTransfer), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail_write(path, "write", n < 0 ? errno : EIO, wanted);
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += n;
  }
}

void fsync_opened(const fs::path& path, int flags) {
  FileDescriptor fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (fd.get() < 0) fail_write(path, "open for fsync", errno);
  if (::fsync(fd.get()) != 0) fail_write(path, "fsync", errno);
}

bool in_memory(int fd) {
  struct statfs status;
  errno = 0;
  return ::fstatfs(fd, &status) == 0 && status.f_type == TMPFS_MAGIC;
}

// Of EFBIG, which the file system or a limit of the process can be the reason of.
std::string size_limit_text() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return ". The file system cannot hold a file of that size";
  }
  return fmt::format(". The limit of a file's size is {} bytes here (`ulimit -f`): raise it",
                     limit.rlim_cur);
}

void check_space(const struct statvfs& space, const fs::path& path, int64_t bytes) {
  const auto free_bytes = static_cast<uint64_t>(space.f_bavail) * space.f_frsize;
  if (space.f_blocks > 0 && bytes > 0 && free_bytes < static_cast<uint64_t>(bytes)) {
    fail_write(path, "reserve", ENOSPC, bytes);
  }
}

}  // namespace

void fail_write(const fs::path& path, std::string_view what, int error, int64_t bytes) {
  if (error == ENOSPC || error == EDQUOT) {
    fail(ErrorCode::kDiskFull, "{} while writing {}{}. Free some space or choose another output.",
         error == ENOSPC ? "the disk is full" : "the disk quota is used up", path.string(),
         bytes > 0 ? fmt::format(" ({} bytes wanted)", bytes) : "");
  }
  fail(ErrorCode::kWriteFailed, "cannot {} {}: {}{}", what, path.string(), std::strerror(error),
       error == EFBIG ? size_limit_text() : "");
}

void reserve_space(int fd, const fs::path& path, int64_t bytes) {
  if (bytes <= 0) return;
  // In memory a promise costs as much as the writing itself: there the free space has to do.
  if (!in_memory(fd) && ::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, bytes) == 0) return;
  if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
    fail_write(path, "reserve", errno, bytes);
  }
  struct statvfs space;
  if (::fstatvfs(fd, &space) == 0) check_space(space, path, bytes);
}

void require_space(const fs::path& directory, int64_t bytes) {
  struct statvfs space;
  if (::statvfs(directory.c_str(), &space) == 0) check_space(space, directory, bytes);
}

FileDescriptor::~FileDescriptor() { close(); }

FileDescriptor::FileDescriptor(FileDescriptor&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)) {}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

int FileDescriptor::close() { return fd_ < 0 ? 0 : ::close(std::exchange(fd_, -1)); }

std::string read_file(const fs::path& path, int64_t max_bytes) {
  int64_t size = 0;
  const FileDescriptor fd = open_for_reading(path, &size);
  if (size > max_bytes) {
    fail(ErrorCode::kUnreadableFile, "{} has {} bytes; at most {} are expected there",
         path.string(), size, max_bytes);
  }
  std::string content(static_cast<size_t>(size), '\0');
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t n = ::read(fd.get(), content.data() + done, content.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_read(path, errno);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  content.resize(done);
  return content;
}

void replace_file(const fs::path& path, const std::function<void(const fs::path&)>& write) {
  require_plain_file(path);
  make_directory(parent_of(path));
  const fs::path temporary = temporary_name(path);
  try {
    write(temporary);
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail_write(path, "rename to", errno);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  fsync_directory(parent_of(path));
}

void write_file_atomic(const fs::path& path, std::string_view content) {
  replace_file(path, [&](const fs::path& temporary) { write_new_file(temporary, content); });
}

void write_new_file(const fs::path& path, std::string_view content) {
  OutputFile file(path);
  file.append(content);
  file.finish();
}

void fsync_path(const fs::path& path) { fsync_opened(path, O_RDONLY); }

void fsync_directory(const fs::path& path) { fsync_opened(path, O_RDONLY | O_DIRECTORY); }

InputFile::InputFile(const fs::path& path) : path_(path), fd_(open_for_reading(path, &size_)) {}

void InputFile::read_at(int64_t offset, std::span<std::byte> into) const {
  const auto bytes = static_cast<int64_t>(into.size());
  while (!into.empty()) {
    const ssize_t n = ::pread(fd_.get(), into.data(), std::min(into.size(), kMaxTransfer), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_read(path_, errno);
    if (n == 0) {
      fail(ErrorCode::kBrokenFile, "{} is truncated: {} more bytes were expected at offset {}",
           path_.string(), into.size(), offset);
    }
    into = into.subspan(static_cast<size_t>(n));
    offset += n;
  }
  count_read_bytes(bytes);
}

MappedFile::MappedFile(const fs::path& path) {
  int64_t size = 0;
  const FileDescriptor fd = open_for_reading(path, &size);
  if (size == 0) return;
  void* at = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_SHARED, fd.get(), 0);
  if (at == MAP_FAILED && errno == ENOMEM) {
    fail(ErrorCode::kOutOfMemory,
         "{} ({} bytes) cannot be mapped: no address space is left (`ulimit -v` shows its limit)",
         path.string(), size);
  }
  if (at == MAP_FAILED) fail_read(path, errno);
  data_ = static_cast<const std::byte*>(at);
  size_ = static_cast<size_t>(size);
  noted_ = note_mapped_range(data_, size_, path.c_str());
}

MappedFile::~MappedFile() {
  forget_mapped_range(noted_);
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      noted_(std::exchange(other.noted_, -1)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(noted_, other.noted_);
  return *this;
}

OutputFile::OutputFile(const fs::path& path, Access access)
    : path_(path), fd_(create_file(path, access)) {}

void OutputFile::reserve(int64_t bytes) { reserve_space(fd_.get(), path_, bytes); }

void OutputFile::append(std::span<const std::byte> bytes) {
  write_all(fd_.get(), path_, written_, bytes);
  written_ += static_cast<int64_t>(bytes.size());
}

void OutputFile::append(std::string_view text) {
  append(std::as_bytes(std::span(text.data(), text.size())));
}

void OutputFile::append_range(const InputFile& from, int64_t begin, int64_t end) {
  bool kernel_copies = true;
  std::vector<std::byte> buffer;
  while (begin < end) {
    if (kernel_copies) {
      off64_t source = begin;
      off64_t target = written_;
      const size_t count = static_cast<size_t>(std::min<int64_t>(end - begin, kMaxTransfer));
      const ssize_t n = ::copy_file_range(from.fd(), &source, fd_.get(), &target, count, 0);
      if (n > 0) {
        count_read_bytes(n);
        begin += n;
        written_ += n;
        continue;
      }
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && (errno == ENOSPC || errno == EDQUOT)) {
        fail_write(path_, "write", errno, end - begin);
      }
      kernel_copies = false;  // other file systems, or an end of file: read_at will say which
    }
    buffer.resize(size_t{4} << 20);
    const auto piece = std::span(buffer).first(
        static_cast<size_t>(std::min<int64_t>(end - begin, static_cast<int64_t>(buffer.size()))));
    from.read_at(begin, piece);
    append(piece);
    begin += static_cast<int64_t>(piece.size());
  }
}

void OutputFile::write_at(int64_t offset, std::span<const std::byte> bytes) {
  SUTOR_ASSERT(offset >= 0 && offset + static_cast<int64_t>(bytes.size()) <= written_);
  write_all(fd_.get(), path_, offset, bytes);
}

void OutputFile::finish() { fsync_and_close(fd_, path_, written_); }

OffsetFile::OffsetFile(const fs::path& path)
    : path_(path), fd_(create_file(path, OutputFile::kShared)) {}

void OffsetFile::reserve(int64_t bytes) { reserve_space(fd_.get(), path_, bytes); }

void OffsetFile::set_size(int64_t bytes) {
  if (::ftruncate(fd_.get(), bytes) != 0) fail_write(path_, "set size of", errno, bytes);
}

void OffsetFile::write_at(int64_t offset, std::span<const std::byte> bytes) const {
  write_all(fd_.get(), path_, offset, bytes);
}

void OffsetFile::start_writing(int64_t offset, int64_t bytes) const {
  // A hint: where it is not known, finish() does all of it.
  if (bytes > 0) ::sync_file_range(fd_.get(), offset, bytes, SYNC_FILE_RANGE_WRITE);
}

void OffsetFile::finish() { fsync_and_close(fd_, path_, 0); }

}  // namespace sutor
