#include "launch/python/side_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "csrc/base/error.h"

extern char** environ;

namespace sutor {
namespace {

constexpr size_t kMostBytes = size_t{8} << 20;
constexpr int kPollMilliseconds = 50;

std::string ending_text(int status) {
  if (WIFSIGNALED(status)) return fmt::format("it was ended by signal {}", WTERMSIG(status));
  return fmt::format("it ended with exit code {}", WEXITSTATUS(status));
}

pid_t start(const std::vector<std::string>& command, int input, const std::filesystem::path& log) {
  std::vector<char*> arguments;
  for (const std::string& part : command) arguments.push_back(const_cast<char*>(part.c_str()));
  arguments.push_back(nullptr);
  std::fflush(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0666);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults, blocked;
  ::sigemptyset(&defaults);
  for (const int number : {SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGPIPE, SIGXFSZ}) {
    ::sigaddset(&defaults, number);
  }
  ::sigemptyset(&blocked);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  ::posix_spawnattr_setsigmask(&attributes, &blocked);
  ::posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
  pid_t child = 0;
  const int error =
      ::posix_spawn(&child, arguments[0], &actions, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    fail(ErrorCode::kNoPythonStep, "{} cannot be started, with its messages in {}: {}", command[0],
         log.string(), std::strerror(error));
  }
  return child;
}

}  // namespace

SideProcess::SideProcess(const std::vector<std::string>& command,
                         const std::filesystem::path& log) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    fail(ErrorCode::kNoPythonStep, "cannot make a pipe: {}", std::strerror(errno));
  }
  const FileDescriptor reading(ends[0]);
  input_ = FileDescriptor(ends[1]);
  ::fcntl(input_.get(), F_SETFL, O_NONBLOCK);  // of this end alone
  child_ = start(command, reading.get(), log);
  writer_ = std::thread([this] { write_lines(); });
}

SideProcess::~SideProcess() {
  if (!done_) finish(std::chrono::milliseconds(0));
}

void SideProcess::send(const std::string& line) {
  {
    const std::lock_guard lock(mutex_);
    if (trouble_) return;
    if (bytes_ + line.size() > kMostBytes) {
      if (!trouble_) trouble_ = "it does not take what it is told";
      return;
    }
    bytes_ += line.size() + 1;
    lines_.push_back(line + "\n");
  }
  changed_.notify_one();
}

std::optional<std::string> SideProcess::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

void SideProcess::note(const std::string& trouble) {
  const std::lock_guard lock(mutex_);
  if (!trouble_) trouble_ = trouble;
}

void SideProcess::write_lines() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return abandoned_ || closing_ || !lines_.empty(); });
    if (abandoned_ || lines_.empty()) break;
    const std::string line = std::move(lines_.front());
    lines_.pop_front();
    bytes_ -= line.size();
    lock.unlock();
    const bool taken = write_line(line);
    lock.lock();
    if (!taken) break;
  }
  input_.close();  // the end of its input
}

bool SideProcess::write_line(const std::string& line) {
  size_t at = 0;
  while (at < line.size()) {
    const ssize_t count = ::write(input_.get(), line.data() + at, line.size() - at);
    if (count > 0) {
      at += static_cast<size_t>(count);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) {  // EPIPE: nobody reads
      note("it ended before the job did");
      return false;
    }
    pollfd polled{input_.get(), POLLOUT, 0};
    ::poll(&polled, 1, kPollMilliseconds);
    const std::lock_guard lock(mutex_);
    if (abandoned_) return false;
  }
  return true;
}

bool SideProcess::has_ended() {
  int status = 0;
  if (!exit_ && ::waitpid(child_, &status, WNOHANG) == child_) exit_ = status;
  return exit_.has_value();
}

bool SideProcess::finish(std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_one();
  while (!has_ended() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
  }
  changed_.notify_one();
  writer_.join();
  done_ = true;
  if (!has_ended()) {
    note("it had not ended when the job did");
    return false;
  }
  if (WIFEXITED(*exit_) && WEXITSTATUS(*exit_) == 0) return true;
  const std::lock_guard lock(mutex_);
  trouble_ = ending_text(*exit_);
  return false;
}

}  // namespace sutor
