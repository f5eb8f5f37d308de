// Whether the process that a record names still runs.
#include "csrc/base/owner/process_owner.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "tests/support/temp_dir.h"

namespace sutor {
namespace {
using testing::TempDir;

TEST(ProcessOwner, ARecordIsReadAsItWasWritten) {
  const ProcessOwner mine = this_process();
  EXPECT_GT(mine.start_ticks, 0);
  const auto read = parse_owner(to_json(mine));
  ASSERT_TRUE(read);
  EXPECT_EQ(to_json(*read), to_json(mine));
  EXPECT_NE(mine.text().find(std::to_string(::getpid())), std::string::npos);
  for (const char* text : {"", "[]", "{", "1"}) EXPECT_FALSE(parse_owner(text)) << text;
  EXPECT_EQ(state_of(*parse_owner("{}")), OwnerState::kUnknown);
}

TEST(ProcessOwner, OnlyThisVeryProcessIsAlive) {
  const ProcessOwner mine = this_process();
  EXPECT_EQ(state_of(mine), OwnerState::kAlive);
  ProcessOwner other = mine;
  other.start_ticks += 1;
  EXPECT_EQ(state_of(other), OwnerState::kGone);
  other = mine;
  other.host += "x";
  EXPECT_EQ(state_of(other), OwnerState::kUnknown);
  other = mine;
  other.boot_id += "x";
  EXPECT_EQ(state_of(other), OwnerState::kUnknown);
  other = mine;
  other.pid_namespace = "pid:[1]";
  EXPECT_EQ(state_of(other), OwnerState::kUnknown);
}

TEST(ProcessOwner, OneThatHasEndedButWasNotWaitedForIsGone) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  siginfo_t info;
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  ProcessOwner owner = this_process();
  owner.pid = child;
  owner.start_ticks = 0;
  EXPECT_EQ(state_of(owner), OwnerState::kGone);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(state_of(owner), OwnerState::kGone);
}

TEST(ProcessOwner, TheRecordOfAStagingDirectoryIsPrivate) {
  TempDir dir;
  write_owner(dir / "OWNER");
  struct stat status;
  ASSERT_EQ(::stat((dir / "OWNER").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_FALSE(owner_is_gone(dir.path()));
}

}  // namespace
}  // namespace sutor
