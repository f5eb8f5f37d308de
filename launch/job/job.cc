#include "launch/job/job.h"

#include <ATen/Parallel.h>

#include <cstdlib>

#include "csrc/base/error.h"
#include "csrc/base/profile.h"
#include "csrc/ops/cpu/kernel_level.h"
#include "csrc/ops/device/memory.h"
#include "launch/job/core_share.h"
#include "launch/job/failure.h"
#include "launch/job/kernel_agreement.h"
#include "launch/job/launcher.h"
#include "launch/torchrun/join.h"

namespace sutor {
namespace {

// How long the other ranks have to report the same error.
constexpr double kSameErrorSeconds = 2.0;

void share_cores(Comm& world) {
  const int cores = core_share(world);
  if (std::getenv("OMP_NUM_THREADS") != nullptr) return;  // the user decides
  at::set_num_threads(cores);
}

}  // namespace

void set_threads(const std::string& threads) {
  if (threads == "auto") return;
  const int count = std::atoi(threads.c_str());
  if (count < 1) {
    fail(ErrorCode::kBadValue, "train.threads should be auto or a number, found `{}`", threads);
  }
  at::set_num_threads(count);
}

int run_job(const std::function<int(Comm& world)>& body) {
  const Environment environment = process_environment();
  const Failure start = failure_of([&] {
    detect_launcher(environment);
    return 0;
  });
  if (!start.message.empty()) {
    if (speaks_for_all(environment)) print_failure(start.message);
    return start.exit_code;
  }
  std::unique_ptr<JoinedRanks> joined;  // outlives the world, which ends by it
  std::unique_ptr<Comm> world;
  const Failure result = failure_of([&] {
    joined = join_torch_ranks(environment);
    world = make_world_comm();
    ops::install_counting_allocator();
    check_same_kernels(world->all_gather_text(ops::kernel_level(), "kernels"));
    share_cores(*world);
    try {
      return body(*world);
    } catch (const c10::OutOfMemoryError& error) {
      const char* scope = scope_of_failure();
      fail(ErrorCode::kOutOfMemory, "out of memory in `{}`: {}", scope ? scope : "start",
           ops::allocation_text(error));
    }
  });
  if (world == nullptr || world->size() == 1) {
    print_failure(result);
    return result.exit_code;
  }
  if (!result.message.empty()) {
    if (!world->all_failed(result.exit_code, kSameErrorSeconds)) {
      print_failure(result, "rank " + std::to_string(world->rank()) + ": ");
      world->abort(result.exit_code);
    }
    if (world->rank() == 0) print_failure(result);
  }
  world->finish(result.exit_code);
  return result.exit_code;
}

}  // namespace sutor
