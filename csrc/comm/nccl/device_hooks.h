// What communication between GPUs asks of those who compute on them. Streams are cudaStream_t, as
// pointers, so that this header needs no CUDA.
#pragma once

namespace sutor {

struct DeviceHooks {
  // The stream on which the calling thread computes now; without the function, or where it returns
  // null, CUDA's default stream (the legacy one).
  void* (*current_stream)() = nullptr;
  // Tells the allocator that `stream` uses the block of `memory` from now on, so that it does not
  // give it to others before `stream` has come past this point, even when its owner frees it.
  // Without it, owners keep blocks alive until Pending::finish().
  void (*record_stream)(const void* memory, void* stream) = nullptr;
};

}  // namespace sutor
