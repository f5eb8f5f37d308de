// Ranks with NcclComm on the stand-ins, and arrays in their device memory.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "csrc/comm/nccl/nccl_comm.h"
#include "tests/support/fake_cuda/recorded_comm.h"

namespace sutor::testing {

struct FakeRank {
  std::shared_ptr<Records> records;  // of the control communicator
  std::unique_ptr<Comm> comm;
};

// Calls `test` in a thread for each rank.
void run_fake_ranks(int ranks, const std::function<void(FakeRank&)>& test,
                    const DeviceHooks& hooks = {});

// A non-blocking stream.
void* new_stream();

// Stays until the process ends: work may still come.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values) : size_(values.size()) {
    const size_t bytes = size_ * sizeof(T);
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&data_), bytes), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, values.data(), bytes, cudaMemcpyHostToDevice), cudaSuccess);
  }
  std::span<T> span() { return {data_, size_}; }
  // For what runs on a stream: it reads and writes at once.
  T* in_stream_order() const { return data_; }
  // In the order of the default stream, for which the host waits.
  std::vector<T> values() const {
    std::vector<T> result(size_);
    EXPECT_EQ(cudaMemcpy(result.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return result;
  }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace sutor::testing
