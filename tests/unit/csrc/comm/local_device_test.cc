// Which GPU of its host a rank takes.
#include "csrc/comm/local_device.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"
#include "tests/support/thread_comm.h"

namespace sutor {
namespace {

using testing::expect_error;
using testing::run_ranks;

TEST(LocalDevice, RanksThatSeeTheSameGpusTakeOneAfterTheOther) {
  run_ranks(3, [](Comm& control) {
    EXPECT_EQ(local_device_of(control, {{"a", "b", "c", "d"}, ""}), control.rank());
  });
}

TEST(LocalDevice, ARankThatSeesAGpuOfItsOwnTakesIt) {
  run_ranks(3, [](Comm& control) {
    EXPECT_EQ(local_device_of(control, {{std::string(1, 'a' + control.rank())}, ""}), 0);
  });
}

TEST(LocalDevice, RanksThatSeeSharedGpusTakeDifferentOnes) {
  run_ranks(3, [](Comm& control) {
    const std::vector<std::string> seen[] = {{"a", "b"}, {"b", "a"}, {"a", "c"}};
    const int expected[] = {0, 0, 1};  // a, b, c
    EXPECT_EQ(local_device_of(control, {seen[control.rank()], ""}), expected[control.rank()]);
  });
}

TEST(LocalDevice, MoreRanksThanGpusAreRefusedOnAllRanksAlike) {
  run_ranks(3, [](Comm& control) {
    const std::string text = expect_error(ErrorCode::kNoGpu, [&] {
      local_device_of(control, {{"a", "b"}, ""});
    });
    EXPECT_NE(text.find("expected a GPU for each rank, found 3 ranks and 2 GPUs on host"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("(rank 2 is the first without one). Start as many ranks as GPUs, or "
                        "compute on the CPUs with `device: cpu`."),
              std::string::npos)
        << text;
  });
}

TEST(LocalDevice, TwoRanksThatSeeTheSameSingleGpuAreRefused) {
  run_ranks(2, [](Comm& control) {
    const std::string text = expect_error(ErrorCode::kNoGpu, [&] {
      local_device_of(control, {{"a"}, ""});
    });
    EXPECT_NE(text.find("found 2 ranks and 1 GPU on host"), std::string::npos) << text;
  });
}

TEST(LocalDevice, ARankWithoutAGpuEndsAllWithTheDriversWords) {
  run_ranks(2, [](Comm& control) {
    VisibleGpus visible{{"a"}, ""};
    if (control.rank() == 1) visible = {{}, "no driver"};
    const std::string text =
        expect_error(ErrorCode::kNoGpu, [&] { local_device_of(control, visible); });
    EXPECT_NE(text.find("for rank 1: no driver."), std::string::npos) << text;
  });
}

TEST(LocalDevice, OneRankTakesTheFirst) {
  EXPECT_EQ(local_device_of(*make_self_comm(), {{"a", "b"}, ""}), 0);
}

}  // namespace
}  // namespace sutor
