// Directories that appear whole or not at all, and what a crash leaves of them.
#include "csrc/base/owner/staged_directory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "csrc/base/directory.h"
#include "csrc/base/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::count_entries;
using testing::expect_error;
using testing::TempDir;

mode_t mode_of(const fs::path& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
}

TEST(StagedDirectory, AppearsOnlyWhenPublished) {
  TempDir dir;
  {
    StagedDirectory staged(dir / "runs/out/");
    EXPECT_EQ(staged.final_path(), dir / "runs/out");
    const fs::path root = staged.path().parent_path();
    EXPECT_EQ(mode_of(root), 0700u);
    EXPECT_EQ(mode_of(root / "OWNER"), 0600u);
    EXPECT_TRUE(root.filename().string().starts_with(".staging-out."));
    write_new_file(staged.path() / "x", "content");
    fs::create_directory(staged.path() / "sub");
    EXPECT_FALSE(fs::exists(dir / "runs/out"));
    staged.publish();
  }
  EXPECT_EQ(dir.read("runs/out/x"), "content");
  EXPECT_EQ(mode_of(dir / "runs/out"), new_directory_mode());
  EXPECT_EQ(count_entries(dir / "runs/out"), 2);
  EXPECT_EQ(count_entries(dir / "runs"), 1);
}

TEST(StagedDirectory, VanishesUnlessPublished) {
  TempDir dir;
  {
    StagedDirectory staged(dir / "out");
    write_new_file(staged.path() / "x", "content");
  }
  EXPECT_EQ(count_entries(dir.path()), 0);
}

TEST(StagedDirectory, NeverReplacesUnlessAsked) {
  TempDir dir;
  fs::create_directory(dir / "out");
  expect_error(ErrorCode::kOutputExists, {"out", "exists"},
               [&] { StagedDirectory staged(dir / "out"); });
  StagedDirectory staged(dir / "late");
  fs::create_directory(dir / "late");  // somebody was faster
  expect_error(ErrorCode::kOutputExists, {"late"}, [&] { staged.publish(); });
  EXPECT_TRUE(fs::is_empty(dir / "late"));
  fs::create_symlink("/nowhere", dir / "link");
  expect_error(ErrorCode::kOutputExists, {"link"}, [&] { StagedDirectory other(dir / "link"); });
}

TEST(StagedDirectory, TheOldOneStaysUntilTheNewOneIsPublished) {
  TempDir dir;
  dir.write("out/old", "old");
  { StagedDirectory given_up(dir / "out", true); }
  EXPECT_EQ(dir.read("out/old"), "old");
  StagedDirectory staged(dir / "out", true);
  write_new_file(staged.path() / "new", "new");
  EXPECT_EQ(dir.read("out/old"), "old");
  staged.publish();
  EXPECT_EQ(dir.read("out/new"), "new");
  EXPECT_EQ(count_entries(dir / "out"), 1);
  EXPECT_EQ(count_entries(dir.path()), 1);
}

TEST(StagedDirectory, ALinkIsNotReplaced) {
  TempDir dir;
  dir.write("elsewhere/precious", "x");
  fs::create_directory_symlink(dir / "elsewhere", dir / "out");
  expect_error(ErrorCode::kOutputExists, {"out", "symbolic link to"},
               [&] { StagedDirectory staged(dir / "out", true); });
  EXPECT_EQ(dir.read("elsewhere/precious"), "x");
}

TEST(StagedDirectory, WhatAKilledProcessLeftGoesAndWhatOthersMakeStays) {
  TempDir dir;
  const pid_t child = ::fork();
  if (child == 0) {
    StagedDirectory staged(dir / "out");
    ::_exit(0);  // as if it were killed
  }
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(count_entries(dir.path()), 1);
  fs::create_directory(dir / ".trash-out.0123456789abcdef");
  StagedDirectory alive(dir / "out"), other(dir / "out2");
  fs::create_directory(dir / ".staging-out.convert");  // of a conversion, which goes on
  const StagedDirectory next(dir / "out");
  EXPECT_TRUE(fs::exists(alive.path()));
  EXPECT_TRUE(fs::exists(other.path()));
  EXPECT_EQ(count_entries(dir.path()), 4);
}

}  // namespace
}  // namespace sutor
