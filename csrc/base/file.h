// Files: whole reads, reads at an offset, mapped reads, and writes that are complete or not there.
// Errors name the path: reading E0301 (missing, unreadable), E0303 (shorter than it should be);
// writing E0501 (disk or quota full, with the bytes wanted), E0502 (anything else).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace sutor {

// The most that a text may have which people write or which holds a few values of each layer.
inline constexpr int64_t kMaxTextBytes = int64_t{64} << 20;
// The whole file as it is. Throws E0301 when it is missing, no regular file (a pipe or a device is
// not waited for), unreadable, or larger than `max_bytes`.
std::string read_file(const std::filesystem::path& path, int64_t max_bytes = kMaxTextBytes);

// Replaces or creates `path`: temporary file beside it, fsync, rename, fsync of the directory. A
// crash leaves the old content or the new one. E0220 when anything but a plain file stands there.
void write_file_atomic(const std::filesystem::path& path, std::string_view content);
// The same for content that `write` puts into the temporary file, which it makes and fsyncs.
void replace_file(const std::filesystem::path& path,
                  const std::function<void(const std::filesystem::path& temporary)>& write);

// Writes a small file that is not there yet, durable but for its name; see OutputFile.
void write_new_file(const std::filesystem::path& path, std::string_view content);

// Makes a file's data, or a directory's names, survive a power cut. Throws E0502 (E0501 when full).
void fsync_path(const std::filesystem::path& path);
void fsync_directory(const std::filesystem::path& path);

// Throws E0501 or E0502 for a failed write to `path`; `error` is its errno, `bytes` what was
// wanted.
[[noreturn]] void fail_write(const std::filesystem::path& path, std::string_view what, int error,
                             int64_t bytes = 0);

// Asks the file system for `bytes` of an open file at once, so that a full disk shows before the
// work is done (E0501). File systems that cannot promise space are asked for their free space
// instead.
void reserve_space(int fd, const std::filesystem::path& path, int64_t bytes);

// Throws E0501 when the file system of a directory has fewer than `bytes` free.
void require_space(const std::filesystem::path& directory, int64_t bytes);

// A file descriptor that closes itself.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  ~FileDescriptor();
  FileDescriptor(FileDescriptor&& other) noexcept;
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  int get() const { return fd_; }
  // Closes now and returns what close() said: 0, or -1 with errno.
  int close();

 private:
  int fd_;
};

// A file read at offsets with pread: unlike a mapping it turns I/O errors and truncation under our
// feet into an Error instead of SIGBUS, and its bytes do not count as resident memory. Thread-safe.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);
  const std::filesystem::path& path() const { return path_; }
  int64_t size() const { return size_; }
  int fd() const { return fd_.get(); }
  // Fills `into` from `offset`. Throws E0303 when the file ends before.
  void read_at(int64_t offset, std::span<std::byte> into) const;

 private:
  std::filesystem::path path_;
  int64_t size_ = 0;
  FileDescriptor fd_;
};

// A whole file mapped read-only. A process whose mapped file is truncated ends with E0303 where
// crash_report.h is installed.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  int noted_ = -1;  // mapped_ranges.h
};

// A new file written from front to back. Refuses to overwrite.
class OutputFile {
 public:
  enum Access : unsigned { kPrivate = 0600, kShared = 0666 };  // less the umask
  explicit OutputFile(const std::filesystem::path& path, Access access = kShared);
  const std::filesystem::path& path() const { return path_; }
  int64_t written() const { return written_; }
  void reserve(int64_t bytes);  // see reserve_space
  void append(std::span<const std::byte> bytes);
  void append(std::string_view text);
  // Appends [begin, end) of another file, by copy_file_range where the file systems can.
  void append_range(const InputFile& from, int64_t begin, int64_t end);
  // Overwrites bytes that were appended before.
  void write_at(int64_t offset, std::span<const std::byte> bytes);
  // fsync and close; the file is durable but for its name.
  void finish();

 private:
  std::filesystem::path path_;
  FileDescriptor fd_;
  int64_t written_ = 0;
};

// A new file whose bytes are written at offsets, in any order; any thread may. Refuses to
// overwrite.
class OffsetFile {
 public:
  explicit OffsetFile(const std::filesystem::path& path);
  const std::filesystem::path& path() const { return path_; }
  void reserve(int64_t bytes);  // see reserve_space
  void set_size(int64_t bytes);
  void write_at(int64_t offset, std::span<const std::byte> bytes) const;
  // Lets the disk begin with these bytes, so that finish() has less to wait for.
  void start_writing(int64_t offset, int64_t bytes) const;
  // fsync and close; the file is durable but for its name. A failure is final: the kernel forgets
  // the pages, a second try proves nothing.
  void finish();

 private:
  std::filesystem::path path_;
  FileDescriptor fd_;
};

}  // namespace sutor
