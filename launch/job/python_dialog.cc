#include "launch/job/python_dialog.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "csrc/base/error.h"
#include "csrc/base/process/stop_signal.h"
#include "csrc/base/text/json.h"
#include "launch/job/python_step.h"

namespace sutor {
namespace {

constexpr std::chrono::milliseconds kPoll{5}, kEnd{3000};

// Whether the child has ended within `most`.
bool wait_for(pid_t child, std::chrono::milliseconds most, int& status) {
  for (std::chrono::milliseconds waited{0}; waited <= most; waited += kPoll) {
    if (::waitpid(child, &status, WNOHANG) == child) return true;
    std::this_thread::sleep_for(kPoll);
  }
  return false;
}

}  // namespace

PythonDialog::PythonDialog(std::string script, const nlohmann::json& job)
    : script_(std::move(script)) {
  const std::vector<std::string> command = python_command(script_, job);
  int ends[2];
  // Not a pair of pipes: writing to a child that is gone must not end this process by a signal.
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    fail(ErrorCode::kWriteFailed, "cannot make a pair of sockets: {}", std::strerror(errno));
  }
  socket_ = FileDescriptor(ends[0]);
  const FileDescriptor theirs(ends[1]);
  child_ = start_python(command, theirs.get(), theirs.get());
}

PythonDialog::~PythonDialog() {
  if (child_ == 0) return;
  socket_.close();
  int status = 0;
  if (!wait_for(child_, kEnd, status)) {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, &status, 0);
  }
  set_child_to_end(0);
}

nlohmann::json PythonDialog::ask(const nlohmann::json& request) {
  const std::string line = dump_json(request) + "\n";
  for (size_t at = 0; at < line.size();) {
    const ssize_t count = ::send(socket_.get(), line.data() + at, line.size() - at, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_ended();
    at += static_cast<size_t>(count);
  }
  return read();
}

nlohmann::json PythonDialog::read() {
  char buffer[1 << 14];
  for (;;) {
    if (const size_t end = pending_.find('\n'); end != std::string::npos) {
      const std::string line = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      return printed_json({kExitOk, line}, script_);
    }
    const ssize_t count = ::recv(socket_.get(), buffer, sizeof buffer, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail_ended();
    pending_.append(buffer, static_cast<size_t>(count));
  }
}

void PythonDialog::fail_ended() {
  int status = 0;
  const bool ended = wait_for(child_, kEnd, status);
  if (ended) {
    child_ = 0;
    set_child_to_end(0);
  }
  if (ended && WIFEXITED(status) && WEXITSTATUS(status) != 0) {
    fail(step_error(WEXITSTATUS(status)), "tools/{} ended, see the message above", script_);
  }
  fail(ErrorCode::kPythonStepDied, "tools/{} ended without an answer{}", script_,
       ended && WIFSIGNALED(status)
           ? fmt::format(", by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)))
           : "");
}

}  // namespace sutor
