// Whether a run can write where its recipe says is found out without making anything.
#include "launch/preflight/output_check.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::count_entries;
using testing::expect_error;
using testing::TempDir;

TEST(OutputCheckTest, ProbesTheNearestFolderThatIsThereAndMakesNone) {
  TempDir dir;
  const OutputReport report = check_output(RunPaths(dir / "runs/my/"));
  EXPECT_EQ(report.probed, dir.path());
  EXPECT_EQ(count_entries(dir.path()), 0);
}

TEST(OutputCheckTest, ProbesTheOutputAndItsCheckpoints) {
  TempDir dir;
  dir.write("run/checkpoints/LATEST", "x");
  EXPECT_EQ(check_output(RunPaths(dir / "run")).probed, dir / "run");
  EXPECT_EQ(count_entries(dir / "run"), 1);
  EXPECT_EQ(count_entries(dir / "run/checkpoints"), 1);
}

TEST(OutputCheckTest, AFileInThePlaceOfAFolderIsRefusedByItsName) {
  TempDir dir;
  dir.write("file", "x");
  expect_error(ErrorCode::kOutputExists, {(dir / "file").string(), "no folder"},
               [&] { check_output(RunPaths(dir / "file")); });
  expect_error(ErrorCode::kOutputExists, {(dir / "file").string()},
               [&] { check_output(RunPaths(dir / "file/below")); });
  dir.write("run/checkpoints", "x");
  expect_error(ErrorCode::kOutputExists, {(dir / "run/checkpoints").string()},
               [&] { check_output(RunPaths(dir / "run")); });
}

}  // namespace
}  // namespace sutor
