// What a folder allows is found out without leaving anything there.
#include "launch/preflight/directory_probe.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::count_entries;
using testing::expect_error;
using testing::TempDir;

TEST(DirectoryProbeTest, TellsWhatTheFileSystemIsAndLeavesNothing) {
  TempDir dir;
  dir.write("kept", "x");
  const DirectoryProbe probe = probe_directory(dir.path());
  EXPECT_FALSE(probe.file_system.empty());
  EXPECT_GT(probe.free_bytes, 0);
  EXPECT_LT(std::abs(probe.seconds_ahead), 60);
  EXPECT_EQ(count_entries(dir.path()), 1);
}

TEST(DirectoryProbeTest, AnOldProbeIsClearedAwayAndAYoungOneIsNot) {
  TempDir dir;
  dir.write(".probe.old/a", "x");
  dir.write(".probe.young/a", "x");
  const auto hours = std::chrono::hours(2);
  std::filesystem::last_write_time(dir / ".probe.old",
                                   std::filesystem::file_time_type::clock::now() - hours);
  probe_directory(dir.path());
  EXPECT_FALSE(std::filesystem::exists(dir / ".probe.old"));
  EXPECT_TRUE(std::filesystem::exists(dir / ".probe.young"));
}

TEST(DirectoryProbeTest, AFolderThatMayNotBeWrittenIsNamed) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  TempDir dir;
  ::chmod(dir.path().c_str(), 0500);
  expect_error(ErrorCode::kWriteFailed, {dir.path().string()},
               [&] { probe_directory(dir.path()); });
  ::chmod(dir.path().c_str(), 0700);
}

TEST(DirectoryProbeTest, AFolderThatIsNotThereIsNamed) {
  TempDir dir;
  expect_error(ErrorCode::kWriteFailed, {(dir / "absent").string()},
               [&] { probe_directory(dir / "absent"); });
}

}  // namespace
}  // namespace sutor
