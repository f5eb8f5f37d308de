// One process at a time: between processes, after deaths, with and without locks of the file
// system.
#include "csrc/base/owner/lock_file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <thread>

#include "csrc/base/error.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::count_entries;
using testing::expect_error;
using testing::TempDir;

int no_locks(int) { return ENOLCK; }
int not_known(int) { return 524; }
int read_only(int) { return EROFS; }

std::atomic<int> losses = 0;
void count_loss(const std::string&) { ++losses; }

LockSettings settings(int (*try_lock)(int)) {
  return {.try_lock = try_lock,
          .patience = 200ms,
          .lease = {.beat = 20ms, .silence = 600ms, .lost = count_loss}};
}

// A child that takes the lock, says so, and waits to be killed.
class Holder {
 public:
  Holder(const fs::path& path, int (*try_lock)(int)) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("no pipe");
    child_ = ::fork();
    if (child_ == 0) {
      const LockFile lock(path, "the folder", settings(try_lock));
      if (::write(ends[1], "!", 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    ::close(ends[1]);
    char byte;
    if (::read(ends[0], &byte, 1) != 1) throw std::runtime_error("the child has no lock");
    ::close(ends[0]);
  }
  ~Holder() { kill(); }
  pid_t pid() const { return child_; }
  void signal(int number) { ::kill(child_, number); }
  void kill() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = -1;
  }

 private:
  pid_t child_ = -1;
};

class LockFileTest : public ::testing::TestWithParam<int (*)(int)> {
 protected:
  LockFile take() { return LockFile(path_, "the folder", settings(GetParam())); }
  TempDir dir_;
  fs::path path_ = dir_ / ".lock";
};

INSTANTIATE_TEST_SUITE_P(FileSystems, LockFileTest,
                         ::testing::Values(flock_at_once, no_locks, not_known, read_only));

TEST_P(LockFileTest, IsRemovedWhenReleasedAndCanBeTakenAgain) {
  for (int i = 0; i < 2; ++i) {
    const LockFile lock = take();
    EXPECT_FALSE(lock.taken_over());
    EXPECT_TRUE(fs::exists(path_));
  }
  EXPECT_EQ(count_entries(dir_.path()), 0);
}

TEST_P(LockFileTest, ASecondProcessIsSentAwayAtOnceWithTheNameOfTheFirst) {
  const Holder holder(path_, GetParam());
  const auto begin = std::chrono::steady_clock::now();
  expect_error(ErrorCode::kBusy,
               {"the folder", "another job", fmt::format("process {} ", holder.pid()), "UTC"},
               [&] { take(); });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, settings(GetParam()).lease.silence);
  EXPECT_TRUE(fs::exists(path_));
}

TEST_P(LockFileTest, ADeadProcessIsTakenOverAndNamed) {
  Holder holder(path_, GetParam());
  const pid_t pid = holder.pid();
  holder.kill();
  const LockFile lock = take();
  ASSERT_TRUE(lock.taken_over());
  EXPECT_EQ(lock.taken_over()->pid, pid);
}

TEST_P(LockFileTest, OneOfManyThatStartTogetherGetsIt) {
  std::atomic<int> taken = 0, busy = 0;
  std::atomic<bool> go = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      while (!go) std::this_thread::yield();
      try {
        const LockFile lock = take();
        ++taken;
        while (taken + busy < 8) std::this_thread::sleep_for(5ms);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kBusy);
        ++busy;
      }
    });
  }
  go = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(taken, 1);
  EXPECT_EQ(busy, 7);
}

TEST_P(LockFileTest, ALinkOrAFolderInItsPlaceIsRefused) {
  dir_.write("precious", "x");
  fs::create_symlink(dir_ / "precious", path_);
  expect_error(ErrorCode::kOutputExists, {".lock", "symbolic link"}, [&] { take(); });
  fs::remove(path_);
  fs::create_directory(path_);
  expect_error(ErrorCode::kOutputExists, {".lock", "folder"}, [&] { take(); });
  EXPECT_EQ(dir_.read("precious"), "x");
}

// A record of another host with the same content all the time, or renewed.
class LeaseTest : public ::testing::Test {
 protected:
  LockFile take() { return LockFile(path_, "the folder", settings(no_locks)); }
  std::string content(ProcessOwner owner, int beat = 0) {
    return "othertoken\n" + to_json(owner) + fmt::format("renewed {}\n", beat);
  }
  ProcessOwner elsewhere() {
    ProcessOwner owner = this_process();
    owner.host = "elsewhere";
    return owner;
  }
  TempDir dir_;
  fs::path path_ = dir_ / ".lock";
};

TEST_F(LeaseTest, OneThatIsNotRenewedIsTakenOverAfterTheSilence) {
  dir_.write(".lock", content(elsewhere()));
  const auto begin = std::chrono::steady_clock::now();
  const LockFile lock = take();
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 600ms);
  ASSERT_TRUE(lock.taken_over());
  EXPECT_EQ(lock.taken_over()->host, "elsewhere");
}

TEST_F(LeaseTest, OneOfAnotherHostThatIsRenewedIsBusy) {
  dir_.write(".lock", content(elsewhere()));
  std::jthread renewing([&](std::stop_token stop) {
    for (int beat = 1; !stop.stop_requested(); ++beat) {
      dir_.write(".lock", content(elsewhere(), beat));
      std::this_thread::sleep_for(20ms);
    }
  });
  expect_error(ErrorCode::kBusy, {"another job"}, [&] { take(); });
}

TEST_F(LeaseTest, AProcessThatGotALockWhereWeGetNoneIsBusyAtOnce) {
  const Holder holder(path_, flock_at_once);
  const auto begin = std::chrono::steady_clock::now();
  expect_error(ErrorCode::kBusy, {fmt::format("process {}", holder.pid())}, [&] { take(); });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 600ms);
}

TEST_F(LeaseTest, AProcessIdThatWasGivenAwayAgainIsGoneAtOnce) {
  ProcessOwner reused = this_process();
  reused.start_ticks -= 1;
  dir_.write(".lock", content(reused));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(take().taken_over());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 600ms);
}

TEST_F(LeaseTest, AHolderThatWasStoppedTooLongHearsThatItsLeaseIsGone) {
  losses = 0;
  const LockFile lock = take();
  dir_.write(".lock", content(elsewhere()));  // what one who took it over would have made
  for (int i = 0; i < 250 && losses == 0; ++i) std::this_thread::sleep_for(20ms);
  EXPECT_EQ(losses, 1);
  EXPECT_TRUE(fs::exists(path_));
}

TEST_F(LeaseTest, AReleasedLeaseOfSomebodyElseStays) {
  losses = 0;
  {
    const LockFile lock = take();
    dir_.write(".lock", content(elsewhere()));
  }
  EXPECT_TRUE(dir_.read(".lock").starts_with("othertoken"));
}

}  // namespace
}  // namespace sutor
