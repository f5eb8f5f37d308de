// Round trips between all ranks: over MPI, and over NCCL where each has a GPU.
#include <ATen/ops/full.h>
#include <fmt/format.h>

#include <chrono>
#include <set>

#include "csrc/base/process/host.h"
#include "csrc/comm/nccl/nccl_comm.h"
#include "csrc/ops/device/gpu.h"
#include "launch/doctor/checks.h"
#include "launch/job/device_choice.h"

namespace sutor {
namespace {

constexpr int kTimes = 20;
constexpr int64_t kNumbers = 1 << 18;  // floats: 1 MiB

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::string mebibytes_text(double seconds) {
  return fmt::format("{:.0f} MiB/s",
                     static_cast<double>(kNumbers) * sizeof(float) / seconds / (1 << 20));
}

// The sum of 1 to `ranks` in every place, whatever carries it.
bool is_sum(float found, int ranks) {
  return found == static_cast<float>(ranks) * static_cast<float>(ranks + 1) / 2;
}

Findings over_mpi(Comm& world) {
  std::set<std::string> hosts;
  for (const std::string& host : world.all_gather_text(host_name(), "hosts")) hosts.insert(host);
  std::vector<float> numbers(kNumbers, static_cast<float>(world.rank() + 1));
  world.barrier("begin");
  const auto begin = std::chrono::steady_clock::now();
  world.all_reduce(std::span(numbers), ReduceOp::kSum, "sum of floats");
  const double sum_seconds = seconds_since(begin);
  const auto ready = std::chrono::steady_clock::now();
  for (int i = 0; i < kTimes; ++i) world.barrier("round trip");
  const double trip = seconds_since(ready) / kTimes;
  if (!is_sum(numbers.front(), world.size()) || !is_sum(numbers.back(), world.size())) {
    return {{"MPI round trip", Grade::kFailed,
             fmt::format("the sum over {} ranks is {}", world.size(), numbers.front()),
             "the ranks have different MPI libraries: load the same modules on all hosts"}};
  }
  return {{"MPI round trip", Grade::kOk,
           fmt::format("{} ranks on {} host{}: a barrier in {:.1f} us, a sum at {}", world.size(),
                       hosts.size(), hosts.size() == 1 ? "" : "s", trip * 1e6,
                       mebibytes_text(sum_seconds)),
           ""}};
}

Findings over_nccl(Comm& world) {
  const ChosenDevice chosen = choose_device("auto", world);
  if (!chosen.device.is_cuda()) return {};
  const std::unique_ptr<Comm> comm =
      make_nccl_comm(world, chosen.device.index(), {.current_stream = ops::current_gpu_stream});
  at::Tensor numbers = at::full({kNumbers}, world.rank() + 1,
                                at::TensorOptions().dtype(at::kFloat).device(chosen.device));
  const auto begin = std::chrono::steady_clock::now();
  comm->all_reduce(std::span(numbers.data_ptr<float>(), static_cast<size_t>(kNumbers)),
                   ReduceOp::kSum, "sum of floats");
  const float found = numbers[0].item<float>();
  const std::string rate = mebibytes_text(seconds_since(begin));
  if (!is_sum(found, world.size())) {
    return {{"NCCL round trip", Grade::kFailed, fmt::format("the sum is {}", found),
             "NCCL_DEBUG=INFO says which connections it uses"}};
  }
  return {
      {"NCCL round trip", Grade::kOk, fmt::format("{}: a first sum at {}", chosen.text, rate), ""}};
}

}  // namespace

Findings check_communication(Comm& world) {
  Findings all;
  if (world.size() > 1) {
    all = caught("MPI round trip", "", [&] { return over_mpi(world); });
  }
  const Findings nccl = caught("NCCL round trip", "start one rank a GPU, or set device: cpu",
                               [&] { return over_nccl(world); });
  all.insert(all.end(), nccl.begin(), nccl.end());
  return all;
}

}  // namespace sutor
