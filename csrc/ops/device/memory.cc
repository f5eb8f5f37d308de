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

constexpr size_t kAlignment = 64;  // also the bytes before a block, which hold its size

void release(void* data) {
  if (data == nullptr) return;
  std::byte* block = static_cast<std::byte*>(data) - kAlignment;
  size_t size;
  std::memcpy(&size, block, sizeof(size));
  live -= static_cast<int64_t>(size);
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
    std::memcpy(block, &size, sizeof(size));
    const int64_t now = live += static_cast<int64_t>(size);
    int64_t seen = peak;
    while (now > seen && !peak.compare_exchange_weak(seen, now)) {
    }
    void* data = static_cast<std::byte*>(block) + kAlignment;
    return {data, data, &release, at::Device(at::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t count) const override {
    std::memcpy(to, from, count);
  }
};

}  // namespace

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
