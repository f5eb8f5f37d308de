// Directories that are written over several starts: by one job at a time, and complete or absent.
#include "checkpoint/files/resumable_directory.h"

#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "csrc/base/directory.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::expect_error;
using testing::TempDir;
using State = ResumableDirectory::State;

void place(const StagingPaths& paths, const std::string& name, const std::string& content) {
  const fs::path part = paths.new_part();
  OutputFile file(part);
  file.append(content);
  file.finish();
  paths.move_to_content(part, name);
}

class ResumableDirectoryTest : public ::testing::Test {
 protected:
  ResumableDirectory open(const std::string& plan = "plan", bool overwrite = false) {
    return ResumableDirectory(out_, plan, overwrite);
  }
  std::string content(const std::string& name) { return dir_.read(out_ / name); }

  TempDir dir_;
  fs::path out_ = dir_ / "folder/out";
  fs::path staging_ = dir_ / "folder/.staging-out.convert";
};

TEST_F(ResumableDirectoryTest, NothingIsThereBeforeItIsPublished) {
  ResumableDirectory directory = open();
  EXPECT_EQ(directory.state(), State::kFresh);
  place(directory.paths(), "a/b", "text");
  EXPECT_FALSE(fs::exists(out_));
  directory.publish();
  EXPECT_EQ(content("a/b"), "text");
  EXPECT_FALSE(fs::exists(staging_));
  struct stat status;
  ASSERT_EQ(::stat(out_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, new_directory_mode());
}

TEST_F(ResumableDirectoryTest, FilesOfAnEarlierStartWithTheSamePlanStay) {
  { place(open().paths(), "a", "1"); }
  dir_.write("folder/.staging-out.convert/parts/unfinished", "x");
  {
    const ResumableDirectory second = open();
    EXPECT_EQ(second.state(), State::kResumed);
    EXPECT_EQ(dir_.read(second.paths().content / "a"), "1");
    EXPECT_TRUE(fs::is_empty(second.paths().parts));
  }
  const ResumableDirectory other = open("another plan");
  EXPECT_EQ(other.state(), State::kFresh);
  EXPECT_TRUE(fs::is_empty(other.paths().content));
}

TEST_F(ResumableDirectoryTest, ATrailingSlashMeansTheSameDirectory) {
  { place(open().paths(), "a", "1"); }
  EXPECT_EQ(ResumableDirectory(out_ / "", "plan", false).state(), State::kResumed);
}

TEST_F(ResumableDirectoryTest, ASecondJobIsSentAway) {
  const ResumableDirectory first = open();
  expect_error(ErrorCode::kBusy, {"folder/out", "another job", "process "}, [&] { open(); });
  expect_error(ErrorCode::kBusy, {"another job"}, [&] { open("another plan", true); });
}

TEST_F(ResumableDirectoryTest, WhatExistsIsNotReplacedUnlessAsked) {
  dir_.write("folder/out/old", "old");
  expect_error(ErrorCode::kOutputExists, {"out exists", "--overwrite"}, [&] { open(); });
  EXPECT_FALSE(fs::exists(staging_));
  ResumableDirectory directory = open("plan", true);
  place(directory.paths(), "new", "new");
  EXPECT_EQ(content("old"), "old");
  directory.publish();
  EXPECT_EQ(content("new"), "new");
  EXPECT_FALSE(fs::exists(out_ / "old"));
  EXPECT_FALSE(fs::exists(staging_));
}

TEST_F(ResumableDirectoryTest, ALinkOrAFileIsNeverReplaced) {
  dir_.write("elsewhere/precious", "x");
  fs::create_directories(out_.parent_path());
  fs::create_directory_symlink(dir_ / "elsewhere", out_);
  expect_error(ErrorCode::kOutputExists, {"not a directory"}, [&] { open("plan", true); });
  fs::remove(out_);
  dir_.write("folder/out", "a file");
  expect_error(ErrorCode::kOutputExists, {"not a directory"}, [&] { open("plan", true); });
  EXPECT_EQ(dir_.read("elsewhere/precious"), "x");
}

TEST_F(ResumableDirectoryTest, SomebodyElsesResultIsNotReplacedAtTheEnd) {
  ResumableDirectory directory = open();
  place(directory.paths(), "a", "mine");
  dir_.write("folder/out/a", "theirs");
  expect_error(ErrorCode::kOutputExists, {"out"}, [&] { directory.publish(); });
  EXPECT_EQ(content("a"), "theirs");
  EXPECT_EQ(dir_.read(directory.paths().content / "a"), "mine");
}

// A kill between the last two steps leaves the plan under its other name.
TEST_F(ResumableDirectoryTest, AKillBeforeTheFinalNameGoesOn) {
  { place(open().paths(), "a", "1"); }
  fs::rename(staging_ / "PLAN", staging_ / "DONE");
  ResumableDirectory directory = open();
  EXPECT_EQ(directory.state(), State::kResumed);
  directory.publish();
  EXPECT_EQ(content("a"), "1");
}

TEST_F(ResumableDirectoryTest, AKillAfterTheFinalNameWasMadeIsDone) {
  { place(open().paths(), "a", "1"); }
  fs::rename(staging_ / "PLAN", staging_ / "DONE");
  fs::rename(staging_ / "content", out_);
  EXPECT_EQ(open().state(), State::kPublished);
  EXPECT_FALSE(fs::exists(staging_));
  EXPECT_EQ(content("a"), "1");
  expect_error(ErrorCode::kOutputExists, {"exists"}, [&] { open(); });
}

TEST_F(ResumableDirectoryTest, AKillWhileReplacingTakesNothingOfTheOldOne) {
  dir_.write("folder/out/a", "new");  // the names are already exchanged: content/ is the old one
  { place(open("plan", true).paths(), "a", "old"); }
  fs::rename(staging_ / "PLAN", staging_ / "DONE");
  ResumableDirectory directory = open("plan", true);
  EXPECT_EQ(directory.state(), State::kFresh);
  EXPECT_TRUE(fs::is_empty(directory.paths().content));
  place(directory.paths(), "a", "newer");
  directory.publish();
  EXPECT_EQ(content("a"), "newer");
}

}  // namespace
}  // namespace sutor
