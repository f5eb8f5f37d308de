#include "csrc/base/process/mapped_ranges.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace sutor {
namespace {

struct Range {
  std::atomic<uintptr_t> begin = 0, end = 0;  // end 0: free
  std::atomic<char*> path = nullptr;
};

std::array<Range, 4096> ranges;
std::mutex mutex;  // between those who note and forget

}  // namespace

int note_mapped_range(const void* begin, size_t size, const char* path) {
  const std::lock_guard lock(mutex);
  for (size_t i = 0; i < ranges.size(); ++i) {
    Range& range = ranges[i];
    if (range.end != 0) continue;
    std::free(range.path.exchange(::strdup(path)));
    range.begin = reinterpret_cast<uintptr_t>(begin);
    range.end = range.begin + size;
    return static_cast<int>(i);
  }
  return -1;
}

void forget_mapped_range(int handle) {
  if (handle < 0) return;
  const std::lock_guard lock(mutex);
  ranges[static_cast<size_t>(handle)].end = 0;
}

const char* mapped_path(const void* address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  for (const Range& range : ranges) {
    if (range.begin <= at && at < range.end) return range.path;
  }
  return nullptr;
}

}  // namespace sutor
