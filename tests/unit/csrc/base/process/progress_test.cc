// Progress: its line, who speaks, and what it does on a terminal and elsewhere.
#include "csrc/base/process/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "csrc/base/file.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::TempDir;

// What is written to stderr meanwhile, through a pseudo-terminal or to a file.
class Captured {
 public:
  explicit Captured(bool terminal) : saved_(::dup(STDERR_FILENO)) {
    std::fflush(stderr);
    if (terminal) {
      reading_ = ::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
      EXPECT_EQ(::grantpt(reading_), 0);
      EXPECT_EQ(::unlockpt(reading_), 0);
      writing_ = ::open(::ptsname(reading_), O_RDWR | O_NOCTTY);
    } else {
      int ends[2];
      EXPECT_EQ(::pipe2(ends, O_NONBLOCK), 0);
      reading_ = ends[0];
      writing_ = ends[1];
    }
    ::dup2(writing_, STDERR_FILENO);
  }
  ~Captured() {
    ::dup2(saved_, STDERR_FILENO);
    for (const int fd : {saved_, reading_, writing_}) ::close(fd);
  }
  std::string text() {
    std::fflush(stderr);
    std::string all;
    char buffer[4096];
    for (ssize_t n; (n = ::read(reading_, buffer, sizeof buffer)) > 0;) {
      all.append(buffer, static_cast<size_t>(n));
    }
    return all;
  }

 private:
  int saved_, reading_ = -1, writing_ = -1;
};

void wait_ms(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

class ProgressTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ::setenv("TERM", "xterm", 1);
    ::unsetenv("SUTOR_PROGRESS_SECONDS");
  }
  void TearDown() override { ::unsetenv("SUTOR_PROGRESS_SECONDS"); }
};

TEST_F(ProgressTest, LineHasDoneOfAllRateAndTimeLeft) {
  Progress tokens("score", 131072, "tokens");
  tokens.add(40552);
  EXPECT_EQ(tokens.text(20), "score: 40,552 of 131,072 tokens (30%), 2,027 tokens/s, 45s left");
  Progress bytes = Progress::of_bytes("convert", int64_t{4} << 30);
  bytes.begin_at(int64_t{1} << 30);
  bytes.add(int64_t{1} << 30);
  EXPECT_EQ(bytes.text(8), "convert: 2.0 GiB of 4.0 GiB (50%), 128.0 MiB/s, 16s left")
      << "what was there before counts as done, not for the rate";
  Progress slow("generate", 30, "prompts");
  slow.add(2);
  EXPECT_EQ(slow.text(60), "generate: 2 of 30 prompts (6%), 30.0 s each, 14m00s left");
  Progress unknown = Progress::of_bytes("loading weights", 0);
  unknown.add(int64_t{3} << 20);
  EXPECT_EQ(unknown.text(1), "loading weights: 3.0 MiB, 3.0 MiB/s");
}

TEST_F(ProgressTest, TerminalGetsOneLineThatIsRewrittenAtMostFiveTimesASecondAndRemoved) {
  Captured terminal(/*terminal=*/true);
  {
    Progress progress("score", 1000, "tokens");
    for (int i = 0; i < 120; ++i) {
      progress.add(5);
      wait_ms(10);
    }
  }
  const std::string text = terminal.text();
  EXPECT_NE(text.find("\rscore: "), std::string::npos) << text;
  EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("\r\x1b[K")) << text;
  size_t lines = 0;
  for (size_t at = 0; (at = text.find("\rscore", at)) != std::string::npos; ++at) ++lines;
  EXPECT_GE(lines, 1u);
  EXPECT_LE(lines, 7u) << text;
}

TEST_F(ProgressTest, FileGetsWholeLinesAtTheIntervalAndNothingOfShortWork) {
  ::setenv("SUTOR_PROGRESS_SECONDS", "0.05", 1);
  Captured file(/*terminal=*/false);
  {
    Progress progress("eval", 10, "tokens");
    for (int i = 0; i < 10; ++i) {
      progress.add(1);
      wait_ms(20);
    }
  }
  const std::string text = file.text();
  EXPECT_TRUE(text.starts_with("eval: ")) << text;
  EXPECT_TRUE(text.ends_with("left\n")) << text;
  EXPECT_EQ(text.find('\r'), std::string::npos) << text;
  ::unsetenv("SUTOR_PROGRESS_SECONDS");
  {
    Progress progress("eval", 10, "tokens");
    progress.add(10);
  }
  EXPECT_EQ(file.text(), "") << "the first line comes after a minute";
}

TEST_F(ProgressTest, OneSpeaksTheOthersAndWhatIsWithinDoNot) {
  ::setenv("SUTOR_PROGRESS_SECONDS", "0.001", 1);
  Captured file(/*terminal=*/false);
  {
    Progress other("rank 1", 10, "tokens", /*speaks=*/false);
    wait_ms(3);
    other.add(1);
    EXPECT_EQ(file.text(), "");
    Progress outer("outer", 10, "tokens");
    Progress inner("inner", 10, "tokens");
    wait_ms(3);
    inner.add(1);
    EXPECT_EQ(file.text(), "");
    outer.add(1);
    EXPECT_NE(file.text().find("outer: "), std::string::npos);
  }
  Progress next("next", 10, "tokens");
  wait_ms(3);
  next.add(1);
  EXPECT_NE(file.text().find("next: "), std::string::npos) << "the one before has ended";
}

TEST_F(ProgressTest, CountsTheBytesThatAreReadOnAnyThread) {
  TempDir dir;
  const InputFile input(dir.write("file", std::string(100000, 'x')));
  const uint64_t before = progress_notes();
  Progress progress = Progress::of_reading("verify", 400000);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      std::vector<std::byte> bytes(1000);
      for (int64_t at = 0; at < 100000; at += 1000) input.read_at(at, bytes);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(progress.text(1).starts_with("verify: 390.6 KiB of 390.6 KiB (100%)"))
      << progress.text(1);
  EXPECT_GE(progress_notes(), before + 400) << "other ranks see that this one comes forward";
}

// Last: nothing speaks in this process any more.
TEST_F(ProgressTest, ZzQuietSaysNothing) {
  ::setenv("SUTOR_PROGRESS_SECONDS", "0.001", 1);
  Captured file(/*terminal=*/false);
  silence_progress();
  Progress progress("score", 10, "tokens");
  wait_ms(3);
  progress.add(1);
  EXPECT_EQ(file.text(), "");
}

}  // namespace
}  // namespace sutor
