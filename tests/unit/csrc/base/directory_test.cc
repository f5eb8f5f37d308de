// Directories that appear complete or not at all, and go away with all that is in them.
#include "csrc/base/directory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "csrc/base/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::count_entries;
using testing::expect_error;
using testing::TempDir;

TEST(Directory, ParentOfAPlainNameIsTheCurrentDirectory) {
  EXPECT_EQ(parent_of("out"), ".");
  EXPECT_EQ(parent_of("runs/out"), "runs");
  EXPECT_EQ(parent_of("/out"), "/");
  EXPECT_EQ(without_slash("runs/out/"), "runs/out");
  EXPECT_EQ(without_slash("runs/out"), "runs/out");
}

TEST(MakeDirectory, MakesParentsAndNamesWhatIsInTheWay) {
  TempDir dir;
  make_directory(dir / "a/b");
  make_directory(dir / "a/b");
  EXPECT_TRUE(fs::is_directory(dir / "a/b"));
  dir.write("file", "x");
  expect_error(ErrorCode::kWriteFailed, {"file/c"}, [&] { make_directory(dir / "file/c"); });
}

TEST(RemoveTree, RemovesAllButWhatLinksPointAt) {
  TempDir dir;
  dir.write("kept/x", "content");
  dir.write("tree/sub/y", "content");
  fs::create_directory_symlink(dir / "kept", dir / "tree/link");
  remove_tree(dir / "tree");
  remove_tree(dir / "tree");  // nothing there
  EXPECT_FALSE(fs::exists(dir / "tree"));
  EXPECT_EQ(dir.read("kept/x"), "content");
}

TEST(RenameNew, RefusesANameThatIsTaken) {
  TempDir dir;
  dir.write("from/x", "content");
  dir.write("taken/y", "other");
  expect_error(ErrorCode::kOutputExists, {"taken", "exists"},
               [&] { rename_new(dir / "from", dir / "taken"); });
  EXPECT_EQ(dir.read("taken/y"), "other");
  rename_new(dir / "from", dir / "free");
  EXPECT_EQ(dir.read("free/x"), "content");
}

TEST(ReplaceDirectory, PutsOneInThePlaceOfTheOther) {
  TempDir dir;
  dir.write("new/x", "new");
  dir.write("out/x", "old");
  dir.write("out/more", "old");
  replace_directory(dir / "new", dir / "out");
  EXPECT_EQ(dir.read("out/x"), "new");
  EXPECT_EQ(count_entries(dir / "out"), 1);
  EXPECT_EQ(count_entries(dir.path()), 1);
}

TEST(StagedDirectory, AppearsOnlyWhenPublished) {
  TempDir dir;
  {
    StagedDirectory staged(dir / "runs/out/");
    EXPECT_EQ(staged.final_path(), dir / "runs/out");
    struct stat status;
    ASSERT_EQ(stat(staged.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0700u);
    EXPECT_EQ(staged.path().filename().string().rfind(".staging-out.", 0), 0u);
    OutputFile file(staged.path() / "x");
    file.append("content");
    file.finish();
    fs::create_directory(staged.path() / "sub");
    EXPECT_FALSE(fs::exists(dir / "runs/out"));
    staged.publish();
  }
  EXPECT_EQ(dir.read("runs/out/x"), "content");
  EXPECT_EQ(count_entries(dir / "runs"), 1);
}

TEST(StagedDirectory, VanishesUnlessPublished) {
  TempDir dir;
  {
    StagedDirectory staged(dir / "out");
    OutputFile(staged.path() / "x").append("content");
  }
  EXPECT_EQ(count_entries(dir.path()), 0);
}

TEST(StagedDirectory, NeverReplaces) {
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

}  // namespace
}  // namespace sutor
