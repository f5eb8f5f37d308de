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
    expect_error(ErrorCode::kUnreadableData, {"rank 0: ", "there is no file"}, [&] {
      from_rank_0(world, "look",
                  []() -> std::string { fail(ErrorCode::kUnreadableData, "there is no file"); });
    });
    // What is no Error of ours ends all alike too.
    expect_error(ErrorCode::kUnexpected, {"odd"},
                 [&] { on_rank_0(world, "act", [] { throw std::runtime_error("odd"); }); });
    expect_error(ErrorCode::kOutOfMemory, {"memory"},
                 [&] { on_rank_0(world, "act", [] { throw std::bad_alloc(); }); });
    on_rank_0(world, "act", [] {});
  });
}

TEST(Agreement, AnErrorOfAnyRankIsFoundByAll) {
  run_ranks(4, [&](Comm& world) {
    const std::string problem = problem_of([&] {
      if (world.rank() == 2) fail(ErrorCode::kOtherBase, "another base");
    });
    expect_error(ErrorCode::kOtherBase, {"rank 2: another base"},
                 [&] { agree(world, problem, "compare"); });
  });
}

}  // namespace
}  // namespace sutor
