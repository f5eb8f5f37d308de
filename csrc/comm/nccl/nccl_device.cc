// The choice of a rank's GPU.
#include "csrc/comm/local_device.h"
#include "csrc/comm/nccl/nccl_calls.h"
#include "csrc/comm/nccl/nccl_comm.h"

namespace sutor {
namespace {

constexpr const char* kName = "choice of the GPU";

VisibleGpus visible_gpus() {
  VisibleGpus visible;
  int count = 0;
  const cudaError_t result = cudaGetDeviceCount(&count);
  if (result != cudaSuccess) {
    visible.why_none = cudaGetErrorString(result);
    return visible;
  }
  if (count == 0) visible.why_none = "CUDA_VISIBLE_DEVICES hides all GPUs, or there are none";
  for (int device = 0; device < count; ++device) {
    char id[32] = "";  // "0000:1B:00.0"
    nccl::check(cudaDeviceGetPCIBusId(id, sizeof id, device), kName);
    visible.ids.push_back(id);
  }
  return visible;
}

}  // namespace

int take_device(Comm& control) {
  const int device = local_device_of(control, visible_gpus());
  nccl::check(cudaSetDevice(device), kName);
  return device;
}

}  // namespace sutor
