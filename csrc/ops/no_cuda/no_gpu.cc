// A build without CUDA has no GPUs.
#include "csrc/base/error.h"
#include "csrc/ops/device/gpu.h"

namespace sutor::ops {

std::string cuda_versions() { return ""; }

std::vector<GpuInfo> visible_gpus(std::string* why) {
  *why = "sutor was built without CUDA (-DSUTOR_CUDA=ON)";
  return {};
}

void use_gpu(int index) { internal_error(__FILE__, __LINE__, "a build without CUDA uses no GPU"); }

GpuMemory gpu_memory(int index) { return {}; }

}  // namespace sutor::ops
