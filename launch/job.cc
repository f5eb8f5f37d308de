#include "launch/job.h"

#include <ATen/Parallel.h>

#include <cstdlib>
#include <thread>

#include "csrc/base/error.h"
#include "csrc/ops/memory.h"
#include "launch/failure.h"

namespace sutor {
namespace {

// How long the other ranks get to meet the same error.
constexpr double kSameErrorSeconds = 2.0;

int ranks_on_this_node(int world_size) {
  for (const char* name : {"MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE"}) {
    const char* text = std::getenv(name);
    if (text != nullptr && std::atoi(text) > 0) return std::atoi(text);
  }
  return world_size;
}

void share_cores(int world_size) {
  if (std::getenv("OMP_NUM_THREADS") != nullptr) return;  // somebody's explicit wish
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  at::set_num_threads(std::max(1, cores / ranks_on_this_node(world_size)));
}

}  // namespace

void set_threads(const std::string& threads) {
  if (threads == "auto") return;
  const int count = std::atoi(threads.c_str());
  if (count < 1) fail(205, "train.threads should be auto or a number, found `{}`", threads);
  at::set_num_threads(count);
}

int run_job(const std::function<int(Comm& world)>& body) {
  std::unique_ptr<Comm> world;
  const Failure result = failure_of([&] {
    world = make_world_comm();
    ops::install_counting_allocator();
    share_cores(world->size());
    return body(*world);
  });
  if (world == nullptr || world->size() == 1) {
    if (!result.message.empty()) print_failure(result.message);
    return result.exit_code;
  }
  if (!result.message.empty()) {
    if (!world->all_failed(result.exit_code, kSameErrorSeconds)) {
      print_failure("rank " + std::to_string(world->rank()) + ": " + result.message);
      world->abort(result.exit_code);
    }
    if (world->rank() == 0) print_failure(result.message);
  }
  world->finish();
  return result.exit_code;
}

}  // namespace sutor
