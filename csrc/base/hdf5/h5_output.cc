#include "csrc/base/hdf5/h5_output.h"

#include <algorithm>

#include "csrc/base/error.h"
#include "csrc/base/parallel.h"

namespace sutor::h5 {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;

[[noreturn]] void fail_readback(const std::filesystem::path& path, const std::string& where) {
  fail(ErrorCode::kWriteFailed,
       "{} does not hold what was written to it: {} came back otherwise. The disk, its driver or "
       "the memory of this machine is at fault; nothing is published.",
       path.string(), where);
}

}  // namespace

void File::Output::for_each_gap(
    const std::function<void(int64_t, std::span<const std::byte>)>& use) const {
  std::vector<std::byte> piece;
  int64_t position = 0;
  const auto gap_until = [&](int64_t end) {
    while (position < end) {
      piece.resize(static_cast<size_t>(std::min(kPieceBytes, end - position)));
      image.read(position, piece);
      use(position, piece);
      position += static_cast<int64_t>(piece.size());
    }
  };
  for (const Array& array : arrays) {
    gap_until(array.offset);
    position = std::max(position, array.offset + array.bytes);
  }
  gap_until(image.size());
}

File::Finished File::Output::finish() {
  std::sort(arrays.begin(), arrays.end(),
            [](const Array& a, const Array& b) { return a.offset < b.offset; });
  Hasher hasher;
  disk.set_size(image.size());
  for_each_gap([&](int64_t offset, std::span<const std::byte> bytes) {
    hasher.update(bytes);
    disk.write_at(offset, bytes);
  });
  const Finished meant{image.size(), hasher.digest()};
  // While the disk makes the bytes durable, the processor reads them back.
  parallel_tasks(2, 2, [&](int64_t task) { task == 0 ? disk.finish() : compare(meant); });
  return meant;
}

void File::Output::compare(const Finished& meant) const {
  const InputFile written(disk.path());
  if (written.size() != meant.bytes) {
    fail_readback(disk.path(),
                  fmt::format("{} bytes, not {}: its end", written.size(), meant.bytes));
  }
  std::vector<std::byte> bytes;
  for_each_gap([&](int64_t offset, std::span<const std::byte> expected) {
    bytes.resize(expected.size());
    written.read_at(offset, bytes);
    if (!std::equal(bytes.begin(), bytes.end(), expected.begin())) {
      fail_readback(disk.path(),
                    fmt::format("{} bytes of its index from byte {} on", bytes.size(), offset));
    }
  });
  for (const Array& array : arrays) {
    if (!array.digest) continue;
    Hasher found;
    for (int64_t at = 0; at < array.bytes; at += static_cast<int64_t>(bytes.size())) {
      bytes.resize(static_cast<size_t>(std::min(kPieceBytes, array.bytes - at)));
      written.read_at(array.offset + at, bytes);
      found.update(bytes);
    }
    if (found.digest() != *array.digest) {
      fail_readback(disk.path(),
                    fmt::format("{} bytes of data from byte {} on", array.bytes, array.offset));
    }
  }
}

}  // namespace sutor::h5
