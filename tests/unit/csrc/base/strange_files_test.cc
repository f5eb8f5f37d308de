// Questions to the file system end in an answer or an Error, and never wait.
#include "csrc/base/directory.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "csrc/base/file.h"
#include "csrc/base/hdf5/h5.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::expect_error;
using testing::TempDir;

// A socket that stands in the file system as long as the object lives.
class SocketFile {
 public:
  explicit SocketFile(const fs::path& path) : fd_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  ~SocketFile() { ::close(fd_); }

 private:
  int fd_;
};

TEST(Paths, WhatIsNotThereIsAnAnswer) {
  TempDir dir;
  const fs::path file = dir.write("file", "x");
  EXPECT_FALSE(is_there(dir / "no"));
  EXPECT_FALSE(is_there(file / "below a file"));
  EXPECT_TRUE(is_file(file) && is_there(file) && !is_folder(file));
  EXPECT_TRUE(is_folder(dir.path()) && !is_file(dir.path()));
  fs::create_symlink("nowhere", dir / "link");
  EXPECT_FALSE(is_there(dir / "link"));
}

TEST(Paths, WhatPreventsAnAnswerIsE0301) {
  TempDir dir;
  fs::create_symlink("circle", dir / "circle");
  for (const fs::path& path : {dir / std::string(300, 'x'), dir / "circle", dir / "circle" / "x"}) {
    expect_error(ErrorCode::kUnreadableFile, {path.string()}, [&] { is_there(path); });
    expect_error(ErrorCode::kUnreadableFile, {path.string()}, [&] { real_path(path); });
    expect_error(ErrorCode::kUnreadableFile, {path.string()}, [&] { entries_of(path); });
  }
}

TEST(Paths, EntriesComeByName) {
  TempDir dir;
  for (const char* name : {"b", "a", "c"}) dir.write(name, "");
  EXPECT_EQ(entries_of(dir.path()), (std::vector<fs::path>{dir / "a", dir / "b", dir / "c"}));
  EXPECT_EQ(bytes_of(dir.write("d", "1234")), 4);
}

TEST(Paths, NothingButARegularFileIsReadAndNothingIsWaitedFor) {
  TempDir dir;
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  const SocketFile socket(dir / "socket");
  const std::pair<fs::path, const char*> cases[] = {{dir / "pipe", "is a pipe"},
                                                    {dir / "socket", "is a socket"},
                                                    {"/dev/zero", "is a device"},
                                                    {dir.path(), "is a directory"}};
  for (const auto& [path, words] : cases) {
    EXPECT_NE(file_objection(path).find(words), std::string::npos);
    expect_error(ErrorCode::kUnreadableFile, {path.string(), words}, [&] { read_file(path); });
    expect_error(ErrorCode::kUnreadableFile, {words}, [&] { InputFile file(path); });
    expect_error(ErrorCode::kUnreadableFile, {words}, [&] { MappedFile file(path); });
    expect_error(ErrorCode::kNotScores, {words},
                 [&] { h5::File::open(path, ErrorCode::kNotScores); });
  }
}

TEST(Paths, AHugeFileIsNotReadIntoMemory) {
  TempDir dir;
  const fs::path file = dir.write("huge", "");
  ASSERT_EQ(::truncate(file.c_str(), off_t{1} << 40), 0);
  expect_error(ErrorCode::kUnreadableFile, {"1099511627776 bytes"}, [&] { read_file(file); });
}

}  // namespace
}  // namespace sutor
