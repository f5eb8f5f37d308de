#include "checkpoint/partial/snapshot.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "csrc/base/parallel.h"

namespace sutor {
namespace {

// Of one task: enough that the threads' start does not count, few enough that all get some.
constexpr int64_t kPieceBytes = int64_t{4} << 20;

}  // namespace

SnapshotMemory::~SnapshotMemory() { release(); }

void SnapshotMemory::release() {
  if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(bytes_));
  data_ = nullptr;
  bytes_ = 0;
}

bool SnapshotMemory::reserve(int64_t bytes) {
  if (bytes <= bytes_) return true;
  release();
  void* made = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (made == MAP_FAILED) return false;
  data_ = static_cast<std::byte*>(made);
  bytes_ = bytes;
  ::madvise(made, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // a hint
  const int64_t pieces = (bytes + kPieceBytes - 1) / kPieceBytes;
  parallel_tasks(0, pieces, [&](int64_t i) {
    const int64_t begin = i * kPieceBytes;
    std::memset(data_ + begin, 1, static_cast<size_t>(std::min(kPieceBytes, bytes - begin)));
  });
  return true;
}

void copy_memory(std::span<const MemoryCopy> copies) {
  std::vector<MemoryCopy> pieces;
  int64_t total = 0;
  for (const MemoryCopy& copy : copies) {
    for (int64_t at = 0; at < copy.bytes; at += kPieceBytes) {
      pieces.push_back({copy.from + at, copy.to + at, std::min(kPieceBytes, copy.bytes - at)});
    }
    total += copy.bytes;
  }
  // A thread costs more than a small copy.
  const int threads = total <= kPieceBytes ? 1 : 0;
  parallel_tasks(threads, static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const MemoryCopy& piece = pieces[static_cast<size_t>(i)];
    std::memcpy(piece.to, piece.from, static_cast<size_t>(piece.bytes));
  });
}

}  // namespace sutor
