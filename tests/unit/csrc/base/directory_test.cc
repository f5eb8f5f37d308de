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

TEST(NewFolders, HaveTheModeThatTheUmaskLeaves) {
  TempDir dir;
  for (const mode_t mask : {0000, 0022, 0027, 0077}) {
    const mode_t before = ::umask(mask);
    const unsigned mode = new_directory_mode();
    make_directory(dir / fmt::format("{:o}/below", mask));
    write_new_file(dir / fmt::format("{:o}/file", mask), "x");
    ::umask(before);
    EXPECT_EQ(mode, 0777u & ~mask);
    for (const auto& [name, wanted] : {std::pair{"", 0777u}, {"below", 0777u}, {"file", 0666u}}) {
      struct stat status;
      ASSERT_EQ(::stat((dir / fmt::format("{:o}/{}", mask, name)).c_str(), &status), 0);
      EXPECT_EQ(status.st_mode & 07777, wanted & ~mask) << name;
    }
  }
}

TEST(RequirePlainFile, NamesWhateverElseStandsThere) {
  TempDir dir;
  dir.write("file", "x");
  require_plain_file(dir / "file");
  require_plain_file(dir / "nothing");
  fs::create_symlink("file", dir / "link");
  fs::create_symlink("/nowhere", dir / "dangling");
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  for (const auto& [name, word] : {std::pair{"link", "symbolic link to file"},
                                   {"dangling", "symbolic link to /nowhere"},
                                   {"fifo", "FIFO"},
                                   {".", "folder"},
                                   {"/dev/null", "device"}}) {
    expect_error(ErrorCode::kOutputExists, {name, word}, [&] { require_plain_file(dir / name); });
    expect_error(ErrorCode::kOutputExists, {name, word},
                 [&] { write_file_atomic(dir / name, "content"); });
  }
  EXPECT_EQ(dir.read("file"), "x");
}

TEST(RequireOwnDirectory, FollowsNoLink) {
  TempDir dir;
  require_own_directory(dir.path());
  require_own_directory(dir / "nothing");
  dir.write("file", "x");
  fs::create_directory_symlink(dir.path(), dir / "link");
  for (const char* name : {"link", "link/", "file"}) {
    expect_error(ErrorCode::kOutputExists, {"no link"}, [&] { require_own_directory(dir / name); });
  }
}

TEST(LiesWithin, ResolvesLinks) {
  TempDir dir;
  fs::create_directories(dir / "a/b");
  fs::create_directory_symlink(dir / "a/b", dir / "link");
  EXPECT_TRUE(lies_within(dir / "a", dir / "a"));
  EXPECT_TRUE(lies_within(dir / "a/", dir / "a"));
  EXPECT_TRUE(lies_within(dir / "link/new", dir / "a"));
  EXPECT_FALSE(lies_within(dir / "a", dir / "a/b"));
  EXPECT_FALSE(lies_within(dir / "ab", dir / "a"));
}

TEST(Directory, ANameIsTakenByALinkWithoutAnEndToo) {
  TempDir dir;
  fs::create_symlink("nowhere", dir / "link");
  EXPECT_TRUE(is_name_taken(dir / "link"));
  EXPECT_TRUE(is_name_taken(dir.path()));
  EXPECT_FALSE(is_name_taken(dir / "free"));
}

TEST(RemoveTemporaries, TakesTheLeftoversOfReplacedFilesAlone) {
  TempDir dir;
  const fs::path left = temporary_name(dir / "LATEST");
  dir.write(left.filename().string(), "x");
  for (const char* name : {".LATEST.tmp", "LATEST.0123456789abcdef.tmp", ".hidden", "x.tmp"}) {
    dir.write(name, "x");
  }
  remove_temporaries(dir.path());
  remove_temporaries(dir / "nothing");
  EXPECT_FALSE(fs::exists(left));
  EXPECT_EQ(count_entries(dir.path()), 4);
}

}  // namespace
}  // namespace sutor
