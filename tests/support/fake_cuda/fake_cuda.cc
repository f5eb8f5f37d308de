// Memory and GPUs: see fake_cuda.h.
#include "tests/support/fake_cuda/fake_cuda.h"

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>

#include "tests/support/fake_cuda/fake_stream.h"

namespace {

using sutor::testing::fake_calls;
using sutor::testing::kFakeGpus;

std::mutex mutex;
std::map<const char*, size_t> allocations;

thread_local int current = 0;  // GPU, among the visible ones

std::vector<int>& visible() {
  thread_local std::vector<int> gpus = [] {
    std::vector<int> all(kFakeGpus);
    std::iota(all.begin(), all.end(), 0);
    return all;
  }();
  return gpus;
}

bool sees(int device) { return device >= 0 && device < static_cast<int>(visible().size()); }

bool holds(const void* data, size_t bytes) {
  const std::lock_guard lock(mutex);
  const char* first = static_cast<const char*>(data);
  auto after = allocations.upper_bound(first);
  if (after == allocations.begin()) return false;
  --after;
  return first + bytes <= after->first + after->second;
}

}  // namespace

namespace sutor::testing {

bool in_fake_device_memory(const void* data, size_t bytes) { return holds(data, bytes); }

FakeCalls& fake_calls() {
  thread_local FakeCalls calls;
  return calls;
}

void see_gpus(std::vector<int> gpus) { visible() = std::move(gpus); }

int current_gpu() { return visible().at(static_cast<size_t>(current)); }

}  // namespace sutor::testing

extern "C" {

const char* cudaGetErrorString(cudaError_t) { return "a fake error"; }
const char* cudaGetErrorName(cudaError_t) { return "cudaErrorFake"; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = static_cast<int>(visible().size());
  return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaSetDevice(int device) {
  if (!sees(device)) return cudaErrorInvalidDevice;
  current = device;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  if (!sees(device)) return cudaErrorInvalidDevice;
  std::snprintf(id, static_cast<size_t>(length), "0000:%02X:00.0",
                visible().at(static_cast<size_t>(device)));
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** data, size_t bytes) {
  ++fake_calls().allocations;
  *data = std::malloc(bytes);
  std::memset(*data, 0xA5, bytes);
  const std::lock_guard lock(mutex);
  allocations[static_cast<const char*>(*data)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  ++fake_calls().frees;
  {
    const std::lock_guard lock(mutex);
    if (data && allocations.erase(static_cast<const char*>(data)) == 0) {
      return cudaErrorInvalidValue;
    }
  }
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
  *attributes = {};
  attributes->type = holds(data, 1) ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  ++fake_calls().copies;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (bytes > 0 && (holds(to, bytes) != to_device || holds(from, bytes) != from_device)) {
    return cudaErrorInvalidValue;
  }
  sutor::testing::enqueue(stream, [to, from, bytes] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
// On the default stream, of which the host waits for the end.
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const cudaError_t result = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  if (result != cudaSuccess) return result;
  return sutor::testing::wait_for_stream(nullptr) ? cudaSuccess : cudaErrorLaunchTimeout;
}

}  // extern "C"
