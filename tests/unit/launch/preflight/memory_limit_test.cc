// The memory that is left, read from what a kernel would show.
#include "launch/preflight/memory_limit.h"

#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::TempDir;

constexpr int64_t kMiB = 1024 * 1024;

class MemoryLimits : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_.write("proc/meminfo", "MemTotal: 99999 kB\nMemAvailable:   2048 kB\nSwapFree: 1024 kB\n");
    dir_.write("proc/self/cgroup", "1:name=systemd:/other\n0::/job/step\n");
  }
  MemoryLimit limit() const {
    return shared_memory_limit(dir_.path() / "proc", dir_.path() / "cgroup");
  }
  TempDir dir_;
};

TEST_F(MemoryLimits, WithoutACgroupTheHostHasTheSay) {
  EXPECT_EQ(limit().bytes, 3 * kMiB);
  EXPECT_NE(limit().what.find("host"), std::string::npos);
}

TEST_F(MemoryLimits, ACgroupWithoutALimitHasNone) {
  dir_.write("cgroup/job/step/memory.max", "max\n");
  EXPECT_EQ(limit().bytes, 3 * kMiB);
}

TEST_F(MemoryLimits, TheLimitOfAGroupAboveCountsWithoutPagesOfFiles) {
  dir_.write("cgroup/job/step/memory.max", "max\n");
  dir_.write("cgroup/job/memory.max", std::to_string(2 * kMiB));
  dir_.write("cgroup/job/memory.current", std::to_string(kMiB));
  dir_.write("cgroup/job/memory.stat", "anon 1\nactive_file 524288\ninactive_file 262144\n");
  EXPECT_EQ(limit().bytes, 2 * kMiB - kMiB / 4);
  EXPECT_NE(limit().what.find("cgroup"), std::string::npos);
}

TEST_F(MemoryLimits, AGroupThatIsFullLeavesNothing) {
  dir_.write("cgroup/job/step/memory.max", std::to_string(kMiB));
  dir_.write("cgroup/job/step/memory.current", std::to_string(2 * kMiB));
  EXPECT_EQ(limit().bytes, 0);
}

TEST_F(MemoryLimits, WhereNothingIsShownThereIsNoLimit) {
  const MemoryLimit none = shared_memory_limit(dir_.path() / "a", dir_.path() / "b");
  EXPECT_EQ(none.bytes, std::numeric_limits<int64_t>::max());
}

}  // namespace
}  // namespace sutor
