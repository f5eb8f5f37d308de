// A process beside the job costs it no time, whatever becomes of it.
#include "launch/python/side_process.h"

#include <gtest/gtest.h>

#include <csignal>

#include "csrc/base/error.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

class SideProcessTest : public ::testing::Test {
 protected:
  SideProcessTest() { std::signal(SIGPIPE, SIG_IGN); }  // as the program does
  std::vector<std::string> shell(const std::string& text) { return {"/bin/sh", "-c", text}; }
  testing::TempDir dir_;
};

TEST_F(SideProcessTest, GetsEveryLineInOrder) {
  const std::string out = (dir_ / "out").string();
  SideProcess process(shell("cat > '" + out + "'; echo done"), dir_ / "log");
  std::string expected;
  for (int i = 0; i < 20000; ++i) {  // more than a pipe holds
    process.send("line " + std::to_string(i));
    expected += "line " + std::to_string(i) + "\n";
  }
  EXPECT_TRUE(process.finish(seconds(60)));
  EXPECT_EQ(dir_.read("out"), expected);
  EXPECT_EQ(dir_.read("log"), "done\n");
  EXPECT_FALSE(process.trouble());
}

TEST_F(SideProcessTest, ThatIsDeadIsToldAndTakesNothing) {
  SideProcess process(shell("exit 3"), dir_ / "log");
  for (int i = 0; i < 100; ++i) process.send(std::string(10000, 'x'));
  EXPECT_FALSE(process.finish(seconds(60)));
  ASSERT_TRUE(process.trouble());
  EXPECT_EQ(*process.trouble(), "it ended with exit code 3");
}

TEST_F(SideProcessTest, ThatReadsNothingHoldsNobodyUp) {
  SideProcess process(shell("exec sleep 30"), dir_ / "log");
  const auto begin = steady_clock::now();
  for (int i = 0; i < 300; ++i) process.send(std::string(100000, 'x'));  // 30 MB
  ASSERT_TRUE(process.trouble());
  EXPECT_EQ(*process.trouble(), "it does not take what it is told");
  EXPECT_FALSE(process.finish(milliseconds(100)));
  EXPECT_LT(steady_clock::now() - begin, seconds(20));
}

TEST_F(SideProcessTest, ThatIsLeftToItselfGetsTheEndOfItsInput) {
  const std::string out = (dir_ / "out").string();
  {
    SideProcess process(shell("read line; cat; echo over > '" + out + "'"), dir_ / "log");
    process.send("first");
  }
  for (int i = 0; i < 1000 && dir_.read("out") != "over\n"; ++i) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_EQ(dir_.read("out"), "over\n");
}

TEST_F(SideProcessTest, ThatDoesNotExistIsRefused) {
  testing::expect_error(ErrorCode::kNoPythonStep,
                        [&] { SideProcess({"/no/such/program"}, dir_ / "log"); });
}

}  // namespace
}  // namespace sutor
