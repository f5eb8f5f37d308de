// What the files of NcclComm share: errors of CUDA (E0610) and NCCL (E0611), waiting with a limit,
// and memory of the device.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <cstddef>

namespace sutor::nccl {

// `name`: the operation, for the message.
void check(cudaError_t result, const char* name);
void check(ncclResult_t result, const char* name);

// Whether NCCL can use this memory as it is; false for memory of the host.
bool is_on_device(const void* memory);

// Waits until all that `stream` was given is done. Throws E0611 when `comm` reports an error and
// E0602 after the time limit (wait_limit.h).
void wait(cudaStream_t stream, ncclComm_t comm, const char* name);

// Memory of the device that grows. It is never freed: that would wait for operations that may never
// end when another rank has failed.
class DeviceBuffer {
 public:
  void* at_least(size_t bytes, const char* name);

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace sutor::nccl
