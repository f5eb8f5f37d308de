// Memory for a copy of what a checkpoint holds, so that a thread can write it while the training
// changes the original. Free of torch and MPI.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sutor {

// Reused from save to save: the pages of fresh memory cost more than the copying.
class SnapshotMemory {
 public:
  SnapshotMemory() = default;
  ~SnapshotMemory();
  SnapshotMemory(const SnapshotMemory&) = delete;
  SnapshotMemory& operator=(const SnapshotMemory&) = delete;

  // Has at least this much afterwards, every page of it written to, on all cores. False when the
  // system refuses; then it has none. What it held is lost when it has to grow.
  bool reserve(int64_t bytes);
  int64_t bytes() const { return bytes_; }
  std::byte* data() { return data_; }

 private:
  void release();

  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

struct MemoryCopy {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  int64_t bytes = 0;
};

// All of them, by as many threads as this process may use.
void copy_memory(std::span<const MemoryCopy> copies);

}  // namespace sutor
