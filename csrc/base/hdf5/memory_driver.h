// Keeps in memory what the HDF5 library writes to a new file: a file driver that never fails, so
// that the library never sees a failed write. (It loses some of them in its buffers, and crashes at
// exit after others.) The caller writes the content to the disk itself and sees every error.
#pragma once

#include <hdf5.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>

namespace sutor::h5 {

// The bytes that were written, by page; the others are zero and take no memory.
class FileImage {
 public:
  // Of the file, once the library has closed it.
  int64_t size() const { return size_; }
  void set_size(int64_t size) { size_ = size; }
  // What was written at most; the library asks for it.
  int64_t written_end() const { return written_end_; }

  void write(int64_t offset, std::span<const std::byte> bytes);
  void read(int64_t offset, std::span<std::byte> into) const;

 private:
  static constexpr int64_t kPageBytes = 4096;
  using Page = std::array<std::byte, kPageBytes>;

  int64_t size_ = 0, written_end_ = 0;
  std::map<int64_t, std::unique_ptr<Page>> pages_;
};

// Makes a file access property list use the driver with this image, which must live until the file
// is closed. False when the library refuses.
bool set_memory_driver(hid_t access, FileImage* image);

}  // namespace sutor::h5
