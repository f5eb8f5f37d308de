// Which files a data set's path names, and the digest by which a change of any of them is seen.
#include "launch/data/rows/row_files.h"

#include <gtest/gtest.h>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/data/rows/sha256.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

class RowFilesTest : public ::testing::Test {
 protected:
  std::vector<std::string> names(const std::string& path) {
    std::vector<std::string> found;
    for (const fs::path& file : row_files(dir_.path() / path)) {
      found.push_back(file.lexically_relative(dir_.path()).string());
    }
    return found;
  }
  std::string digest(const std::string& path) {
    return row_files_digest(dir_.path() / path, row_files(dir_.path() / path), sha256_of_file);
  }

  testing::TempDir dir_;
};

using Names = std::vector<std::string>;

TEST_F(RowFilesTest, OfAFolderAreThoseCalledAsRowsInTheOrderOfBytes) {
  make_directory(dir_.path() / "set" / "deep");
  make_directory(dir_.path() / "set" / ".git");
  for (const char* name : {"set/b.jsonl", "set/a.PARQUET", "set/B.csv.gz", "set/deep/c.json.zst",
                           "set/README.md", "set/_SUCCESS.json", "set/.git/d.jsonl", "set/e.gz"}) {
    dir_.write(name, "x");
  }
  fs::create_directory_symlink(dir_.path() / "set", dir_.path() / "set" / "again");
  EXPECT_EQ(names("set"),
            (Names{"set/B.csv.gz", "set/a.PARQUET", "set/b.jsonl", "set/deep/c.json.zst"}));
  EXPECT_EQ(names("set/deep/"), (Names{"set/deep/c.json.zst"}));
}

TEST_F(RowFilesTest, OfAGlobAreTheFilesThatItMatches) {
  for (const char* name : {"a-2.jsonl", "a-10.jsonl", "b-1.jsonl", "a.txt"}) dir_.write(name, "x");
  make_directory(dir_.path() / "a-3.jsonl");
  EXPECT_EQ(names("a-*.jsonl"), (Names{"a-10.jsonl", "a-2.jsonl"}));
  EXPECT_EQ(names("[ab]-[12].jsonl"), (Names{"a-2.jsonl", "b-1.jsonl"}));
  EXPECT_EQ(names("?.txt"), (Names{"a.txt"}));
  EXPECT_TRUE(names("c*").empty());
}

TEST_F(RowFilesTest, APathThatIsThereIsNoGlob) {
  dir_.write("a[1].jsonl", "x");
  dir_.write("a1.jsonl", "x");
  EXPECT_EQ(names("a[1].jsonl"), (Names{"a[1].jsonl"}));
  EXPECT_EQ(names("a.txt"), Names{});
  EXPECT_EQ(digest("a1.jsonl"), sha256_of_file(dir_.path() / "a1.jsonl"));
}

TEST_F(RowFilesTest, DigestOfSeveralTellsContentsNamesAndNumber) {
  dir_.write("set/a.jsonl", "1");
  dir_.write("set/deep/b.jsonl", "2");
  const std::string first = digest("set");
  // As `sha256sum a.jsonl deep/b.jsonl | sha256sum` prints it.
  EXPECT_EQ(first, "sha256:7ec87b502153494e579e4a0d46047a24fb4b399dd9e5480faace1da3d61b83c7");
  dir_.write("set/a.jsonl", "3");
  EXPECT_NE(digest("set"), first);
  dir_.write("set/a.jsonl", "1");
  EXPECT_EQ(digest("set"), first);
  dir_.write("set/c.jsonl", "");
  EXPECT_NE(digest("set"), first);
  fs::remove(dir_.path() / "set" / "c.jsonl");
  fs::rename(dir_.path() / "set" / "a.jsonl", dir_.path() / "set" / "aa.jsonl");
  EXPECT_NE(digest("set"), first);
}

TEST_F(RowFilesTest, FolderWithoutRowsIsAnErrorAndAMissingFileIsLeftToItsReader) {
  dir_.write("set/README.md", "x");
  testing::expect_error(ErrorCode::kUnreadableData, {"holds no rows"},
                        [&] { row_file_names(dir_.path() / "set"); });
  EXPECT_EQ(row_file_names(dir_.path() / "none.jsonl").size(), 1U);
}

}  // namespace
}  // namespace sutor
