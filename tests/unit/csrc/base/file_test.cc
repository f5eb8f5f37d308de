// Reads that name what is wrong, writes that are complete or absent.
#include "csrc/base/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <csignal>

#include "csrc/base/parallel.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::count_entries;
using testing::expect_error;
using testing::TempDir;

TEST(ReadFile, ReturnsAllBytes) {
  TempDir dir;
  const std::string content("a\0b\n", 4);
  EXPECT_EQ(read_file(dir.write("x", content)), content);
}

TEST(ReadFile, MissingDirectoryAndOversizeAreE0301WithThePath) {
  TempDir dir;
  expect_error(ErrorCode::kUnreadableFile, {(dir / "no").string(), "does not exist"},
               [&] { read_file(dir / "no"); });
  expect_error(ErrorCode::kUnreadableFile, {"not a regular file"}, [&] { read_file(dir.path()); });
  expect_error(ErrorCode::kUnreadableFile, {"5 bytes", "at most 4"},
               [&] { read_file(dir.write("x", "12345"), 4); });
}

TEST(WriteFileAtomic, ReplacesAndLeavesNothingElse) {
  TempDir dir;
  write_file_atomic(dir / "sub/x", "one");
  write_file_atomic(dir / "sub/x", "two");
  EXPECT_EQ(dir.read("sub/x"), "two");
  EXPECT_EQ(count_entries(dir / "sub"), 1);
}

TEST(WriteFileAtomic, FailureNamesThePathAndLeavesNothing) {
  TempDir dir;
  fs::create_directories(dir / "taken/inside");
  expect_error(ErrorCode::kOutputExists, {"taken"}, [&] { write_file_atomic(dir / "taken", "x"); });
  EXPECT_EQ(count_entries(dir.path()), 1);
}

TEST(ReplaceFile, KeepsTheOldContentWhenWritingFails) {
  TempDir dir;
  dir.write("x", "old");
  const auto break_off = [&] {
    replace_file(dir / "x", [](const fs::path& temporary) {
      write_new_file(temporary, "half of the n");
      fail(ErrorCode::kDiskFull, "full");
    });
  };
  expect_error(ErrorCode::kDiskFull, {"full"}, break_off);
  EXPECT_EQ(dir.read("x"), "old");
  EXPECT_EQ(count_entries(dir.path()), 1);
}

TEST(WriteNewFile, WritesOnceAndRefusesToOverwrite) {
  TempDir dir;
  write_new_file(dir / "x", "one");
  expect_error(ErrorCode::kWriteFailed, {"x", "File exists"},
               [&] { write_new_file(dir / "x", "two"); });
  EXPECT_EQ(dir.read("x"), "one");
}

TEST(FailWrite, FullDiskAndQuotaAreE0501WithBytesOthersE0502) {
  expect_error(ErrorCode::kDiskFull, {"/a/b", "1234 bytes", "disk is full"},
               [] { fail_write("/a/b", "write", ENOSPC, 1234); });
  expect_error(ErrorCode::kDiskFull, {"quota"}, [] { fail_write("/a/b", "write", EDQUOT, 1); });
  expect_error(ErrorCode::kWriteFailed, {"/a/b", "Input/output error"},
               [] { fail_write("/a/b", "write", EIO, 1); });
}

TEST(OutputFile, RefusesToOverwrite) {
  TempDir dir;
  dir.write("x", "old");
  expect_error(ErrorCode::kWriteFailed, {"File exists"}, [&] { OutputFile file(dir / "x"); });
  EXPECT_EQ(dir.read("x"), "old");
}

TEST(OutputFile, AppendsPatchesAndCopiesRanges) {
  TempDir dir;
  const InputFile source(dir.write("from", "0123456789"));
  OutputFile file(dir / "to");
  file.reserve(100);
  file.append("ab");
  file.append_range(source, 3, 7);
  file.append_range(source, 5, 5);
  file.append("cd");
  const std::byte patch[] = {std::byte{'X'}};
  file.write_at(1, patch);
  file.finish();
  EXPECT_EQ(dir.read("to"), "aX3456cd");  // the reservation does not lengthen the file
}

TEST(OutputFile, ARangeBeyondTheSourceIsTruncation) {
  TempDir dir;
  const InputFile source(dir.write("from", "0123456789"));
  OutputFile file(dir / "to");
  expect_error(ErrorCode::kBrokenFile, {"from", "truncated"},
               [&] { file.append_range(source, 5, 12); });
}

TEST(OutputFile, AFileSizeLimitIsAnErrorNotASignal) {
  TempDir dir;
  rlimit old_limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{4096, old_limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  OutputFile file(dir / "x");
  expect_error(ErrorCode::kWriteFailed, {"x", "File too large"},
               [&] { file.append(std::string(10000, 'a')); });
  setrlimit(RLIMIT_FSIZE, &old_limit);
  std::signal(SIGXFSZ, old_handler);
}

TEST(InputFile, ReadsAtOffsetsAndNamesTruncation) {
  TempDir dir;
  const InputFile file(dir.write("x", "0123456789"));
  EXPECT_EQ(file.size(), 10);
  std::byte into[4];
  file.read_at(6, into);
  EXPECT_EQ(std::to_integer<char>(into[3]), '9');
  expect_error(ErrorCode::kBrokenFile, {"truncated", "x"}, [&] { file.read_at(7, into); });
}

TEST(MappedFile, HoldsTheBytesAndMayBeEmpty) {
  TempDir dir;
  MappedFile file(dir.write("x", "abc"));
  const MappedFile moved(std::move(file));
  ASSERT_EQ(moved.bytes().size(), 3u);
  EXPECT_EQ(std::to_integer<char>(moved.bytes()[2]), 'c');
  EXPECT_TRUE(MappedFile(dir.write("empty", "")).bytes().empty());
}

TEST(ParallelTasks, RunsEachOnceAndRethrows) {
  std::vector<std::atomic<int>> done(100);
  parallel_tasks(4, 100, [&](int64_t i) { ++done[i]; });
  for (const auto& count : done) EXPECT_EQ(count, 1);
  expect_error(ErrorCode::kBrokenFile, {"nine"}, [] {
    parallel_tasks(3, 20, [](int64_t i) {
      if (i == 9) fail(ErrorCode::kBrokenFile, "nine");
    });
  });
  parallel_tasks(0, 0, [](int64_t) { FAIL(); });
}

}  // namespace
}  // namespace sutor
