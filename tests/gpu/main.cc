// GoogleTest with one GPU per rank, with or without mpiexec; the tests skip themselves where there
// are fewer GPUs than ranks.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "csrc/base/error.h"
#include "csrc/comm/nccl/nccl_comm.h"
#include "tests/gpu/nccl_world.h"

namespace sutor {
namespace {

std::unique_ptr<Comm> control, world;
std::string reason;

// The same on all ranks: either all of them take part or none.
void make_world() {
  int devices = 0;
  const cudaError_t result = cudaGetDeviceCount(&devices);
  int64_t least = result == cudaSuccess ? devices : 0;
  control->all_reduce(std::span(&least, 1), ReduceOp::kMin, "GPUs");
  if (least == 0) {
    reason = fmt::format("no GPU: cudaGetDeviceCount says `{}`", cudaGetErrorString(result));
  } else if (least < control->size()) {
    reason = fmt::format("{} GPUs for {} ranks", least, control->size());
  } else {
    world = make_nccl_comm(*control, take_device(*control));
  }
}

}  // namespace

std::string no_ranks_because() { return reason; }

void on_all_ranks(const std::function<void(Comm&)>& test) { test(*world); }

}  // namespace sutor

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  sutor::control = sutor::make_world_comm();
  if (sutor::control->rank() != 0) {  // one report is enough; failures of others are printed too
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
  }
  int64_t failed = 1;
  try {
    sutor::make_world();
    failed = RUN_ALL_TESTS();
  } catch (const sutor::Error& error) {
    std::printf("%s\n", error.report().c_str());
    sutor::control->abort(error.exit_code());
  }
  sutor::control->all_reduce(std::span(&failed, 1), sutor::ReduceOp::kMax, "test result");
  sutor::world.reset();
  sutor::control->finish(failed ? 1 : 0);
  return failed ? 1 : 0;
}
