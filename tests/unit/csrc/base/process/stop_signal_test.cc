// The first signal is noted, a second one ends the process; tasks that share out work end between
// two of them where that is allowed.
#include "csrc/base/process/stop_signal.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "csrc/base/error.h"
#include "csrc/base/parallel.h"

namespace sutor {
namespace {

void sleep_ms(long milliseconds) {
  const timespec pause{0, milliseconds * 1'000'000};
  ::nanosleep(&pause, nullptr);
}

// Runs `body` in a child process; returns its exit code, or -n when signal n ended it.
template <typename Body>
int exit_code_in_child(const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    note_stop_signals(/*speaks=*/false);
    ::_exit(body());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(StopSignal, TheFirstOneIsOnlyNoted) {
  for (const int number : {SIGTERM, SIGINT, SIGUSR1, SIGUSR2}) {
    EXPECT_EQ(exit_code_in_child([&] {
                ::raise(number);
                return stop_signal() == number ? 0 : 1;
              }),
              0);
  }
}

TEST(StopSignal, ASecondOneEndsTheProcessAtOnce) {
  EXPECT_EQ(exit_code_in_child([] {
              ::kill(::getpid(), SIGUSR1);
              sleep_ms(100);
              ::kill(::getpid(), SIGTERM);
              return 0;
            }),
            128 + SIGTERM);
  EXPECT_EQ(exit_code_in_child([] {
              ::kill(::getpid(), SIGINT);
              sleep_ms(100);
              ::kill(::getpid(), SIGINT);
              return 0;
            }),
            128 + SIGINT);
}

// Ctrl-C comes to a rank from the terminal and from its launcher, the parent of this child.
TEST(StopSignal, WhatTheLauncherForwardsIsNotASecondOne) {
  const pid_t child = ::fork();
  if (child == 0) {
    note_stop_signals(/*speaks=*/false);
    ::kill(::getpid(), SIGINT);
    while (true) ::pause();  // until it is ended
  }
  sleep_ms(100);
  ::kill(child, SIGINT);  // forwarded
  sleep_ms(100);
  EXPECT_EQ(::waitpid(child, nullptr, WNOHANG), 0) << "it ended";
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST(StopSignal, TasksEndBetweenTwoOfThemWhereTheyMay) {
  EXPECT_EQ(exit_code_in_child([] {
              const Interruptible here;
              int done = 0;
              try {
                parallel_tasks(1, 10, [&](int64_t) {
                  if (++done == 3) ::raise(SIGTERM);
                });
              } catch (const Error& error) {
                return error.code() == ErrorCode::kStopped && done == 3 ? 0 : 1;
              }
              return 2;
            }),
            0);
}

TEST(StopSignal, TasksOfRanksInStepGoOn) {
  EXPECT_EQ(exit_code_in_child([] {
              int done = 0;
              ::raise(SIGTERM);
              parallel_tasks(1, 10, [&](int64_t) { ++done; });
              return done == 10 ? 0 : 1;
            }),
            0);
}

}  // namespace
}  // namespace sutor
