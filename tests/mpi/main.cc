// GoogleTest over MPI: every rank runs every test; a failure on any rank fails the program.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "mpi_world.h"

namespace sutor {
namespace {
std::unique_ptr<Comm> world;
}
Comm& test_world() { return *world; }
}  // namespace sutor

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  at::set_num_threads(1);
  sutor::world = sutor::make_world_comm();
  if (sutor::world->rank() != 0) {  // one report is enough; failures of others are printed too
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
  }
  int64_t failed = RUN_ALL_TESTS();
  sutor::world->all_reduce(std::span(&failed, 1), sutor::ReduceOp::kMax, "test result");
  if (failed && sutor::world->rank() == 0) std::printf("a rank failed\n");
  sutor::finish_world();
  return failed ? 1 : 0;
}
