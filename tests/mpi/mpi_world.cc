#include "mpi_world.h"

#include <gtest/gtest.h>

#include <cstdio>

namespace sutor {
namespace {
std::unique_ptr<Comm> world;
}

Comm& test_world() { return *world; }

int run_mpi_tests(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  world = make_world_comm();
  if (world->rank() != 0) {  // one report is enough; failures of others are printed too
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
  }
  int64_t failed = RUN_ALL_TESTS();
  world->all_reduce(std::span(&failed, 1), ReduceOp::kMax, "test result");
  if (failed && world->rank() == 0) std::printf("a rank failed\n");
  world->finish(failed ? 1 : 0);
  world.reset();
  return failed ? 1 : 0;
}

}  // namespace sutor
