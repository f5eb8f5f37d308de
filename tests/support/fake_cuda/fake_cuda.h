// Stand-ins for CUDA's run-time library and NCCL on machines without a GPU, linked instead of them:
// ranks are threads of one process, and device memory is host memory that is marked as such. A
// stream is a queue that another thread works off, slowly enough that who does not wait for an
// event reads old data. Streams wait for each other by events only: all but the default stream are
// non-blocking, others are refused. The operations of NCCL wait for each other as the real ones do
// and refuse what those refuse: host memory, ranges beyond an allocation, and, as errors that the
// communicator reports later, ranks with different operations. What waits for other ranks is
// missing here, so that who calls it does not link: ncclCommDestroy, cudaDeviceSynchronize,
// blocking streams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace sutor::testing {

// Whether the whole range lies in one allocation of cudaMalloc.
bool in_fake_device_memory(const void* data, size_t bytes);

// What the calling thread has asked of CUDA and NCCL.
struct FakeCalls {
  int64_t allocations = 0, frees = 0, copies = 0;  // cudaMalloc, cudaFree, cudaMemcpy
  int64_t operations = 0;                          // of NCCL
  std::vector<void*> streams;                      // of these, each once
};
FakeCalls& fake_calls();

// The calling thread sees these of the eight GPUs from now on, as by CUDA_VISIBLE_DEVICES.
void see_gpus(std::vector<int> gpus);

// A kernel on a stream (cudaStream_t); null: the default stream.
void launch(void* stream, std::function<void()> kernel);

}  // namespace sutor::testing
