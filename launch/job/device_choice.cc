#include "launch/job/device_choice.h"

#include <fmt/format.h>

#include "csrc/base/error.h"
#include "csrc/base/process/host.h"
#include "csrc/comm/nccl/nccl_comm.h"
#include "csrc/ops/device/gpu.h"

namespace sutor {
namespace {

constexpr const char* kHowToBuild =
    "`bash tools/setup.sh --cuda` builds one that has it, build-cuda/sutor";

// Why no rank can use a GPU; empty when every host has one.
std::string no_gpu_reason(const std::vector<ops::GpuInfo>& gpus, const std::string& why,
                          Comm& world) {
  int64_t least = static_cast<int64_t>(gpus.size());
  world.all_reduce(std::span(&least, 1), ReduceOp::kMin, "GPUs");
  if (least > 0) return "";
  if (!gpus.empty()) return "another host has no GPU";
  return "no GPU on " + host_name() + (why.empty() ? "" : ": " + why);
}

}  // namespace

ChosenDevice choose_device(const std::string& asked, Comm& world) {
  if (asked == "cpu") return {at::kCPU, "cpu"};
  const bool must = asked == "cuda";
  if (ops::cuda_versions().empty()) {
    if (must) {
      fail(ErrorCode::kNoCuda,
           "device: cuda was asked for, but this sutor was built without CUDA: {}.", kHowToBuild);
    }
    return {at::kCPU, "cpu (auto: this build has no CUDA)"};
  }
  std::string why;
  const std::vector<ops::GpuInfo> gpus = ops::visible_gpus(&why);
  const std::string reason = no_gpu_reason(gpus, why, world);
  if (!reason.empty()) {
    if (must) {
      fail(ErrorCode::kNoCuda,
           "device: cuda was asked for, but there is {}. `--device cpu` computes on the CPU.",
           reason);
    }
    return {at::kCPU, "cpu (auto: " + reason + ")"};
  }
  const int index = take_device(world);
  ops::use_gpu(index);
  return {at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index)),
          fmt::format("cuda:{} {} ({}, {})", index, gpus[static_cast<size_t>(index)].name,
                      must ? "asked for" : "auto: a GPU for every rank", ops::cuda_versions())};
}

}  // namespace sutor
