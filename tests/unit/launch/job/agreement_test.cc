// What rank 0 finds all ranks know, and its error is everybody's.
#include "launch/job/agreement.h"

#include <gtest/gtest.h>

#include <atomic>
#include <new>

#include "tests/support/expect_error.h"
#include "tests/support/thread_comm.h"

namespace sutor {
namespace {

using testing::expect_error;
using testing::run_ranks;

TEST(Agreement, AllRanksGoByWhatRankZeroFound) {
  std::atomic<int> looks = 0;
  run_ranks(4, [&](Comm& world) {
    const std::string found =
        from_rank_0(world, "look", [&] { return "rank " + std::to_string(world.rank()); });
    EXPECT_EQ(found, "rank 0");
    on_rank_0(world, "act", [&] { ++looks; });
  });
  EXPECT_EQ(looks, 1);
}

TEST(Agreement, AnErrorOfRankZeroIsTheErrorOfAll) {
  run_ranks(4, [&](Comm& world) {
    expect_error(331, {"rank 0: ", "there is no file"}, [&] {
      from_rank_0(world, "look", []() -> std::string { fail(331, "there is no file"); });
    });
    // What is no Error of ours ends all alike too.
    expect_error(7000, {"odd"},
                 [&] { on_rank_0(world, "act", [] { throw std::runtime_error("odd"); }); });
    expect_error(503, {"memory"}, [&] { on_rank_0(world, "act", [] { throw std::bad_alloc(); }); });
    on_rank_0(world, "act", [] {});
  });
}

TEST(Agreement, AnErrorOfAnyRankIsFoundByAll) {
  run_ranks(4, [&](Comm& world) {
    const std::string problem = problem_of([&] {
      if (world.rank() == 2) fail(305, "another base");
    });
    expect_error(305, {"rank 2: another base"}, [&] { agree(world, problem, "compare"); });
  });
}

}  // namespace
}  // namespace sutor
