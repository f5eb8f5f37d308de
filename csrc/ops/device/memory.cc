#include "csrc/ops/device/memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "csrc/base/error.h"
#include "csrc/ops/device/gpu.h"

namespace sutor::ops {
namespace {

std::atomic<int64_t> live{0}, peak{0};
std::atomic<size_t> current_item{0};
std::array<std::atomic<int64_t>, kMemoryItems> live_items{}, peak_items{};

// How a block is counted; it stands before the block, or apart where there is none.
struct Count {
  size_t size, item;
};

Count count_up(size_t size) {
  const Count count{size, current_item};
  const auto bytes = static_cast<int64_t>(size);
  live_items[count.item] += bytes;
  const int64_t now = live += bytes;
  int64_t seen = peak;
  while (now > seen) {
    if (!peak.compare_exchange_weak(seen, now)) continue;
    for (size_t i = 0; i < kMemoryItems; ++i) peak_items[i] = live_items[i].load();
    break;
  }
  return count;
}

void count_down(const Count& count) {
  live -= static_cast<int64_t>(count.size);
  live_items[count.item] -= static_cast<int64_t>(count.size);
}

constexpr size_t kAlignment = 64;  // also the bytes before a block, which hold its count
static_assert(sizeof(Count) <= kAlignment);

void release(void* data) {
  if (data == nullptr) return;
  std::byte* block = static_cast<std::byte*>(data) - kAlignment;
  Count count;
  std::memcpy(&count, block, sizeof(count));
  count_down(count);
  std::free(block);
}

class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    if (size == 0) return {nullptr, nullptr, &release, at::Device(at::kCPU)};
    void* block = nullptr;
    if (posix_memalign(&block, kAlignment, size + kAlignment) != 0) {
      fail(ErrorCode::kOutOfMemory, "out of memory: a tensor of {} bytes beside {} bytes in use",
           size, live.load());
    }
    const Count count = count_up(size);
    std::memcpy(block, &count, sizeof(count));
    void* data = static_cast<std::byte*>(block) + kAlignment;
    return {data, data, &release, at::Device(at::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t count) const override {
    std::memcpy(to, from, count);
  }
};

// Addresses that no process has: not canonical on x86-64, beyond user space elsewhere. The counts
// of blocks lie in memory of their own, by which they are freed.
constexpr uintptr_t kNowhere = uintptr_t{1} << 62;

class ShapeAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    if (size == 0) return {nullptr, nullptr, &forget, at::Device(at::kMeta)};
    return {reinterpret_cast<void*>(kNowhere), new Count(count_up(size)), &forget,
            at::Device(at::kMeta)};
  }
  void copy_data(void*, const void*, size_t) const override {}

 private:
  static void forget(void* context) {
    const auto* count = static_cast<Count*>(context);
    if (count == nullptr) return;
    count_down(*count);
    delete count;
  }
};

}  // namespace

const char* name_of(MemoryItem item) {
  constexpr const char* kNames[] = {"activations", "weights",  "gradients",
                                    "optimizer",   "dispatch", "logits"};
  return kNames[static_cast<size_t>(item)];
}

MemoryScope::MemoryScope(MemoryItem item)
    : before_(static_cast<MemoryItem>(current_item.exchange(static_cast<size_t>(item)))) {}
MemoryScope::~MemoryScope() { current_item = static_cast<size_t>(before_); }

std::array<int64_t, kMemoryItems> items_of_peak() {
  std::array<int64_t, kMemoryItems> items;
  for (size_t i = 0; i < kMemoryItems; ++i) items[i] = peak_items[i];
  return items;
}

void reset_peak() {
  peak = live.load();
  for (size_t i = 0; i < kMemoryItems; ++i) peak_items[i] = live_items[i].load();
}

void install_shape_allocator() {
  static ShapeAllocator allocator;
  c10::SetAllocator(c10::DeviceType::Meta, &allocator, /*priority=*/100);
}

bool is_without_values(const void* address) {
  return reinterpret_cast<uintptr_t>(address) >= kNowhere;
}

void install_counting_allocator() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 64 << 20);
  static CountingAllocator allocator;
  c10::SetCPUAllocator(&allocator, /*priority=*/100);
}

MemoryUse memory_use(at::Device device) {
  if (!device.is_cuda()) return {live, live, peak};
  const GpuMemory gpu = gpu_memory(device.index());
  return {gpu.allocated, gpu.reserved, gpu.peak};
}

std::string allocation_text(const c10::OutOfMemoryError& error) {
  const std::string text = error.what_without_backtrace();
  return text.substr(0, text.find('\n'));
}

}  // namespace sutor::ops
