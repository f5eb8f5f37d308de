// Shared by the files of NcclComm: errors of CUDA (E0610) and NCCL (E0611), waiting with a time
// limit, events.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <string>
#include <utility>

#include "csrc/comm/wait_limit.h"

namespace sutor::nccl {

// `name`: the operation, for the message.
void check(cudaError_t result, const char* name);
void check(ncclResult_t result, const char* name);

// Throws E0611 when the communicator has met an error since its beginning. `newest`: its newest
// operation; `name`: the one that is about to begin or to end.
void check_state(ncclComm_t comm, const std::string& newest, const char* name);

// Whether memory is a GPU's; false for host memory.
bool is_on_device(const void* memory);

// The host waits until all work on `stream` is done. Throws E0611 as check_state() does, and E0602
// after the time limit.
void wait(cudaStream_t stream, ncclComm_t comm, const std::string& newest, const char* name,
          double limit_seconds = own_wait_limit_seconds());

// A point in the work of a stream. Its end waits for nothing, whether the point is reached or not.
class Event {
 public:
  Event() = default;
  Event(cudaStream_t stream, const char* name) { record(stream, name); }
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~Event() {
    if (event_) cudaEventDestroy(event_);
  }

  // From now on the point after all that `stream` has got so far.
  void record(cudaStream_t stream, const char* name);
  // What `stream` gets later comes after the point of now, also when another one is recorded.
  void hold_back(cudaStream_t stream, const char* name) const;

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace sutor::nccl
