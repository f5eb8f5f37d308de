#include "csrc/comm/watchdog/exit_report.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <thread>

namespace sutor {
namespace {

using std::chrono::milliseconds;

// From the launcher's helper on this node to the launcher itself.
constexpr milliseconds kForward{300}, kDrain{2000};

bool takes_output(int fd, int milliseconds) {
  pollfd polled{fd, POLLOUT, 0};
  return ::poll(&polled, 1, milliseconds) == 1;
}

// Bytes of a pipe that its reader has not taken; 0 for files and terminals.
int unread(int fd) {
  int bytes = 0;
  return ::ioctl(fd, FIONREAD, &bytes) == 0 ? bytes : 0;
}

}  // namespace

void print_exit_report(const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    if (!takes_output(STDERR_FILENO, 1000)) return;
    const ssize_t count = ::write(STDERR_FILENO, text.data() + at, text.size() - at);
    if (count <= 0 && errno != EINTR) return;
    at += static_cast<size_t>(std::max<ssize_t>(count, 0));
  }
}

void wait_until_forwarded() {
  const auto until = std::chrono::steady_clock::now() + kDrain;
  while (!::isatty(STDERR_FILENO) && unread(STDERR_FILENO) > 0 &&
         std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  std::this_thread::sleep_for(kForward);
}

void end_process(int exit_code) {
  if (takes_output(STDOUT_FILENO, 0) && ::ftrylockfile(stdout) == 0) ::fflush_unlocked(stdout);
  ::_exit(exit_code);
}

}  // namespace sutor
