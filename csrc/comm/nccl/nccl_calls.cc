#include "csrc/comm/nccl/nccl_calls.h"

#include <chrono>
#include <thread>

#include "csrc/base/error.h"

namespace sutor::nccl {

void check(cudaError_t result, const char* name) {
  if (result == cudaSuccess) return;
  fail(ErrorCode::kCudaFailed, "CUDA failed in `{}`: {} ({})", name, cudaGetErrorString(result),
       cudaGetErrorName(result));
}

void check(ncclResult_t result, const char* name) {
  if (result == ncclSuccess) return;
  const char* last = ncclGetLastError(nullptr);
  fail(ErrorCode::kNcclFailed, "NCCL failed in `{}`: {}. {} (NCCL_DEBUG=INFO tells more.)", name,
       ncclGetErrorString(result), last ? last : "");
}

void check_state(ncclComm_t comm, const std::string& newest, const char* name) {
  ncclResult_t state = ncclSuccess;
  check(ncclCommGetAsyncError(comm, &state), name);
  if (state == ncclSuccess) return;
  const char* last = ncclGetLastError(comm);
  fail(ErrorCode::kNcclFailed,
       "NCCL failed in `{}` or before it, seen in `{}`: {}. {} (NCCL_DEBUG=INFO tells more.)",
       newest, name, ncclGetErrorString(state), last ? last : "");
}

bool is_on_device(const void* memory) {
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, memory), "kind of memory");
  return attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
}

void wait(cudaStream_t stream, ncclComm_t comm, const std::string& newest, const char* name,
          double limit_seconds) {
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t tries = 0;; ++tries) {
    const cudaError_t result = cudaStreamQuery(stream);
    if (result == cudaSuccess) return check_state(comm, newest, name);
    if (result != cudaErrorNotReady) check(result, name);
    if (tries < 50) {
      std::this_thread::yield();
      continue;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(10));
    if (tries % 1024 != 0) continue;
    check_state(comm, newest, name);
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
    if (waited.count() > limit_seconds) {
      fail(ErrorCode::kCommTimeout,
           "waited {:.0f} s on the GPU in `{}` for the other ranks. One of them is stuck or gone "
           "(SUTOR_COMM_TIMEOUT sets the limit in seconds).",
           waited.count(), name);
    }
  }
}

void Event::record(cudaStream_t stream, const char* name) {
  if (!event_) check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), name);
  check(cudaEventRecord(event_, stream), name);
}

void Event::hold_back(cudaStream_t stream, const char* name) const {
  check(cudaStreamWaitEvent(stream, event_, 0), name);
}

}  // namespace sutor::nccl
