#include "csrc/ops/device/gpu.h"

#include <ATen/Context.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime.h>
#include <fmt/format.h>
#include <nccl.h>

namespace sutor::ops {

std::string cuda_versions() {
  int cuda = 0, nccl = 0;  // 13000, 22809
  // Not by torch's check, which throws where there is no GPU whatever the result.
  if (cudaRuntimeGetVersion(&cuda) != cudaSuccess) cuda = CUDART_VERSION;
  if (ncclGetVersion(&nccl) != ncclSuccess) nccl = 0;
  return fmt::format("CUDA {}.{}, NCCL {}.{}.{}", cuda / 1000, cuda % 1000 / 10, nccl / 10000,
                     nccl / 100 % 100, nccl % 100);
}

std::vector<GpuInfo> visible_gpus(std::string* why) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    cudaGetLastError();  // so that the next check does not find it
    *why = cudaGetErrorString(error);
    return {};
  }
  std::vector<GpuInfo> gpus;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties;
    C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
    gpus.push_back({properties.name, static_cast<int64_t>(properties.totalGlobalMem)});
  }
  return gpus;
}

void use_gpu(int index) {
  at::globalContext().lazyInitDevice(at::kCUDA);
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(index));
}

void* current_gpu_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

GpuMemory gpu_memory(int index) {
  at::globalContext().lazyInitDevice(at::kCUDA);
  using c10::CachingAllocator::StatType;
  const auto stats =
      c10::cuda::CUDACachingAllocator::getDeviceStats(static_cast<c10::DeviceIndex>(index));
  constexpr auto kAll = static_cast<size_t>(StatType::AGGREGATE);
  return {.allocated = stats.allocated_bytes[kAll].current,
          .reserved = stats.reserved_bytes[kAll].current,
          .peak = stats.allocated_bytes[kAll].peak};
}

}  // namespace sutor::ops
