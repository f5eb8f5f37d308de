// A sealed file is read as it was written or not at all.
#include "csrc/base/hdf5/seal.h"

#include <gtest/gtest.h>

#include "csrc/base/hdf5/h5.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor::h5 {
namespace {
using testing::expect_error;
using testing::TempDir;

std::filesystem::path sealed_file(const TempDir& dir) {
  write_file(dir / "x.h5", [](File& file) {
    file.set_text("/", "name", "a text");
    file.write("/a", {3}, std::vector<int32_t>{1, 2, 3});
  });
  return dir / "x.h5";
}

TEST(SealTest, IsTheEndOfEveryFileThatIsWrittenAtOnce) {
  TempDir dir;
  const auto path = sealed_file(dir);
  EXPECT_TRUE(check_seal(path, ErrorCode::kBadHdf5));
  const File file = File::open(path);
  EXPECT_EQ(file.get_text("/", "name"), "a text");
  EXPECT_EQ(file.read<int32_t>("/a"), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(dir.read("x.h5").substr(dir.read("x.h5").size() - 24, 8), "SUTORSUM");
}

TEST(SealTest, AnyFlippedByteIsSeenBeforeTheLibraryReadsIt) {
  TempDir dir;
  const std::string good = dir.read(sealed_file(dir));
  for (size_t at = 0; at + 24 < good.size(); at += 3) {
    std::string bad = good;
    bad[at] ^= 0x40;
    expect_error(ErrorCode::kBadHdf5, {"bad.h5"}, [&] { File::open(dir.write("bad.h5", bad)); });
  }
}

TEST(SealTest, WithoutItsSealAFileIsRefused) {
  TempDir dir;
  const std::string good = dir.read(sealed_file(dir));
  std::string damaged = good;
  damaged[good.size() - 24] ^= 1;
  for (const std::string& bad :
       {good.substr(0, good.size() - 24), good.substr(0, good.size() - 1), good + "x", damaged}) {
    expect_error(ErrorCode::kNotScores, {"bad.h5"}, [&] {
      File::open(dir.write("bad.h5", bad), ErrorCode::kBadHdf5, ErrorCode::kNotScores);
    });
  }
}

TEST(SealTest, FilesOfOlderProgramsHaveNone) {
  TempDir dir;
  {
    File file = File::create(dir / "old.h5");
    file.set_int("/", "x", 1);
    file.finish();
  }
  EXPECT_FALSE(check_seal(dir / "old.h5", ErrorCode::kBadHdf5));
  EXPECT_EQ(File::open(dir / "old.h5").get_int("/", "x"), 1);
  seal_file(dir / "old.h5");
  EXPECT_TRUE(check_seal(dir / "old.h5", ErrorCode::kBadHdf5));
}

}  // namespace
}  // namespace sutor::h5
