// Fingerprints of steps read large files in little memory, and each file once.
#include "launch/steps/step_fingerprint.h"

#include <gtest/gtest.h>

#include <fstream>

#include "csrc/base/profile.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

// A figure of this process, in bytes: "VmRSS", "VmHWM" (the highest VmRSS since forget_peak()).
int64_t memory(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1)) * 1024;
  }
  return -1;
}

void forget_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

int64_t files_read() {
  for (const ProfileLine& line : profile_lines()) {
    if (line.name == "read file for its digest") return line.calls;
  }
  return 0;
}

TEST(FileDigest, EqualsThatOfTheBytesAtEverySizeAroundABlock) {
  const testing::TempDir dir;
  for (const int64_t size : {int64_t{0}, int64_t{1}, kMiB - 1, kMiB, kMiB + 1, 3 * kMiB}) {
    std::string bytes(static_cast<size_t>(size), '\0');
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 + i / kMiB);
    EXPECT_EQ(file_digest(dir.write("file", bytes)), xxh3(bytes)) << size;
  }
  testing::expect_error(ErrorCode::kUnreadableFile, {"absent"},
                        [&] { file_digest(dir / "absent"); });
}

TEST(FileDigest, ALargeFileNeedsLittleMemory) {
  const testing::TempDir dir;
  const auto path = dir.write("large", "x");
  std::filesystem::resize_file(path, 512 * kMiB);  // a hole, which costs no disk
  const int64_t before = memory("VmRSS");
  forget_peak();
  file_digest(path);
  ASSERT_GT(before, 0);
  EXPECT_LT(memory("VmHWM") - before, 16 * kMiB);
  // The measure itself: what holds the file shows.
  std::string whole(64 * kMiB, 'x');
  EXPECT_GT(memory("VmHWM") - before, 48 * kMiB) << whole.size();
}

TEST(FileDigests, AFileOfSeveralStepsIsReadOnce) {
  const testing::TempDir dir;
  const auto tokens = dir.write("run/tokens/a.h5", "tokens"), rows = dir.write("rows", "rows");
  enable_profile();
  FileDigests files;
  const Digest score = step_fingerprint("score", {tokens}, {}, files);
  const Digest train = step_fingerprint("train", {tokens, rows}, {}, files);
  EXPECT_EQ(files_read(), 2);
  EXPECT_NE(score, train);
  EXPECT_EQ(step_fingerprint("score", {tokens}, {}, files), score);
  EXPECT_EQ(files_read(), 2);
}

TEST(FileDigests, WhatAStepWroteIsReadAgain) {
  const testing::TempDir dir;
  const auto tokens = dir.write("run/tokens/a.h5", "tokens"), rows = dir.write("rows", "rows");
  const auto beside = dir.write("run/tokens.txt", "beside");
  FileDigests files;
  for (const auto& path : {tokens, rows, beside}) files.of(path);
  EXPECT_EQ(files.of(dir / "absent"), "absent");
  for (const auto& path : {tokens, rows, beside}) std::ofstream(path) << "new";
  files.forget(dir / "run/tokens");
  EXPECT_EQ(files.of(tokens), xxh3("new").text());
  EXPECT_EQ(files.of(rows), xxh3("rows").text());
  EXPECT_EQ(files.of(beside), xxh3("beside").text());
  files.forget(rows);
  EXPECT_EQ(files.of(rows), xxh3("new").text());
}

// Files written by the program before must stay valid.
TEST(StepFingerprint, IsTheDigestOfVersionKeysInputsAndDigests) {
  const testing::TempDir dir;
  FileDigests files;
  Hasher hasher;
  hasher.update_int(1);
  hasher.update("keys\n");
  hasher.update(xxh3("content").text());
  hasher.update("absent");
  hasher.update("xxh3:1\n");
  EXPECT_EQ(step_fingerprint("keys\n", {dir.write("file", "content"), {}}, {"xxh3:1"}, files),
            hasher.digest());
}

}  // namespace
}  // namespace sutor
