// Replaces csrc/ops/cuda/gpu.cc in builds without CUDA.
#include "csrc/base/error.h"
#include "csrc/ops/device/gpu.h"

namespace sutor::ops {

std::string cuda_versions() { return ""; }

std::vector<GpuInfo> visible_gpus(std::string* why) {
  *why = "built without CUDA";
  return {};
}

void use_gpu(int) { SUTOR_ASSERT(false); }

void* current_gpu_stream() { return nullptr; }

GpuMemory gpu_memory(int) { return {}; }

}  // namespace sutor::ops
