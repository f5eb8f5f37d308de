#include "csrc/base/process/stop_signal.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>

namespace sutor {
namespace {

constexpr int kSignals[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};

// One request may come twice: Ctrl-C goes to a launcher and its ranks, and the launcher forwards
// it. Such a pair has two senders, one of them the launcher, and so little time between them.
constexpr int64_t kForwardedWithin = 2'000'000'000, kSameSignalWithin = 20'000'000;  // ns

// What the handler reads and writes; all are lock-free, so that it may.
std::atomic<int> noted = 0;
std::atomic<int64_t> noted_at = 0;
std::atomic<pid_t> noted_from = 0, launcher = 0, child_to_end = 0;
std::atomic<bool> says_so = false;
std::atomic<int> interruptible = 0;
static_assert(std::atomic<int64_t>::is_always_lock_free);

int64_t now() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// Async-signal-safe.
void say(const char* name, const char* text) {
  char line[160] = "\n";
  std::strncat(line, name, 16);
  std::strncat(line, text, 120);
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line, std::strlen(line));
}

bool is_the_same_request(pid_t sender) {
  const int64_t since = now() - noted_at;
  if (since < kSameSignalWithin) return true;
  const bool one_is_the_launcher = (sender == launcher) != (noted_from == launcher);
  return one_is_the_launcher && since < kForwardedWithin;
}

void handle(int number, siginfo_t* info, void*) {
  const int error = errno;
  const pid_t sender = info->si_code == SI_USER ? info->si_pid : 0;
  int none = 0;
  if (noted.compare_exchange_strong(none, number)) {
    noted_at = now();
    noted_from = sender;
    if (says_so) say(signal_name(number), ": stopping soon; a second one stops at once\n");
  } else if (!is_the_same_request(sender)) {
    say(signal_name(number), ": the second signal, stopped at once. What was saved is whole\n");
    if (child_to_end > 0) ::kill(child_to_end, SIGKILL);
    ::_exit(128 + number);
  }
  errno = error;
}

}  // namespace

void note_stop_signals(bool speaks) {
  says_so = speaks;
  launcher = ::getppid();
  for (const int number : kSignals) {
    struct sigaction before {};
    ::sigaction(number, nullptr, &before);
    if (number == SIGINT && before.sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    for (const int other : kSignals) ::sigaddset(&action.sa_mask, other);
    ::sigaction(number, &action, nullptr);
  }
}

int stop_signal() { return noted; }

const char* signal_name(int number) {
  switch (number) {
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    case SIGUSR1:
      return "SIGUSR1";
    case SIGUSR2:
      return "SIGUSR2";
    default:
      return "a signal";
  }
}

void set_child_to_end(pid_t child) { child_to_end = child; }

Interruptible::Interruptible() { ++interruptible; }
Interruptible::~Interruptible() { --interruptible; }
int Interruptible::signal() { return interruptible > 0 ? stop_signal() : 0; }

}  // namespace sutor
