#include "launch/chat/chat_console.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>

namespace sutor {
namespace {

volatile sig_atomic_t interrupted = 0;
struct sigaction before;

void note(int) { interrupted = 1; }

}  // namespace

ChatConsole::ChatConsole() : terminal_(::isatty(STDIN_FILENO) && ::isatty(STDOUT_FILENO)) {
  struct sigaction action {};
  action.sa_handler = note;  // without SA_RESTART: it ends a wait for input
  ::sigaction(SIGINT, &action, &before);
}

ChatConsole::~ChatConsole() { ::sigaction(SIGINT, &before, nullptr); }

bool ChatConsole::take_interrupt() {
  const bool found = interrupted != 0;
  interrupted = 0;
  return found;
}

bool ChatConsole::take_line(std::string& line) {
  size_t end = pending_.find('\n');
  if (end == std::string::npos && (!ended_ || pending_.empty())) return false;
  if (end == std::string::npos) end = pending_.size();  // the last one may lack its end
  line = pending_.substr(0, end);
  pending_.erase(0, end + 1);
  if (line.ends_with('\r')) line.pop_back();
  prompted_ = false;
  return true;
}

ChatConsole::Event ChatConsole::read_line(std::string& line, double seconds) {
  constexpr int kSlice = 200;  // ms: another thread may have got the signal
  if (terminal_ && !prompted_) {
    say("> ");
    prompted_ = true;
  }
  const auto begin = std::chrono::steady_clock::now();
  for (;;) {
    if (take_line(line)) return Event::kLine;
    if (ended_) return Event::kEnd;
    if (take_interrupt()) {
      prompted_ = false;
      return Event::kInterrupted;
    }
    if (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() > seconds) {
      return Event::kNothing;
    }
    pollfd polled{STDIN_FILENO, POLLIN, 0};
    if (::poll(&polled, 1, kSlice) <= 0) continue;
    char buffer[1 << 14];
    const ssize_t count = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (count > 0) pending_.append(buffer, static_cast<size_t>(count));
    ended_ = count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN);
  }
}

void ChatConsole::say(const std::string& text) {
  fmt::print("{}", text);
  std::fflush(stdout);
}

void ChatConsole::tell(const std::string& line) {
  std::fflush(stdout);
  fmt::print(stderr, "{}\n", line);
}

}  // namespace sutor
