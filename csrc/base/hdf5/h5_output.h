// The disk's side of a new HDF5 file; only h5.cc and h5_output.cc include it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "csrc/base/file.h"
#include "csrc/base/hash.h"
#include "csrc/base/hdf5/h5.h"
#include "csrc/base/hdf5/memory_driver.h"

namespace sutor::h5 {

struct File::Output {
  struct Array {
    int64_t offset = 0, bytes = 0;
    std::optional<Digest> digest;  // of what was written; none: whoever wrote it checks it
  };

  explicit Output(const std::filesystem::path& path) : disk(path) {}
  // After the library closed the file; see File::finish().
  Finished finish();

  FileImage image;
  OffsetFile disk;
  std::vector<Array> arrays;

 private:
  // Calls use(offset, bytes) for all bytes outside arrays, in order, in pieces.
  void for_each_gap(
      const std::function<void(int64_t offset, std::span<const std::byte> bytes)>& use) const;
  void compare(const Finished& meant) const;
};

}  // namespace sutor::h5
