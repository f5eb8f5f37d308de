// Inside the stand-ins: GPUs, and work on their streams.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <functional>

namespace sutor::testing {

// How long a stream or a rank waits before it takes the others for stuck.
constexpr std::chrono::seconds kPatience{20};

constexpr int kFakeGpus = 8;
int current_gpu();  // of the calling thread, among all of them

// Adds work to the stream, which may be the current device's default stream.
void enqueue(cudaStream_t stream, std::function<void()> work);
bool wait_for_stream(cudaStream_t stream);  // false: it does not come to its end

}  // namespace sutor::testing
