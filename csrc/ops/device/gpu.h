// The GPUs of this machine, as a build with CUDA sees them (csrc/ops/cuda/gpu.cc); a build without
// sees none (csrc/ops/no_cuda/no_gpu.cc).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sutor::ops {

// A GPU of this host, as its driver names it.
struct GpuInfo {
  std::string name;         // "NVIDIA H200"
  int64_t total_bytes = 0;  // of its memory
};

// "CUDA 13.0, NCCL 2.28.9"; empty in a build without CUDA.
std::string cuda_versions();
// The visible GPUs; none when there is no driver, whose words are then in `why`.
std::vector<GpuInfo> visible_gpus(std::string* why);
// Makes a GPU the current one of this thread; every thread that touches its tensors calls it.
void use_gpu(int index);

// The stream on which this thread computes: a cudaStream_t.
void* current_gpu_stream();

// Bytes of this process on a GPU, by torch's caching allocator.
struct GpuMemory {
  int64_t allocated = 0, reserved = 0, peak = 0;  // peak: of allocated
};
GpuMemory gpu_memory(int index);

}  // namespace sutor::ops
