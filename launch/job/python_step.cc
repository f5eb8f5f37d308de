#include "launch/job/python_step.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/process/progress.h"
#include "csrc/base/text/json.h"
#include "launch/job/stop_request.h"

extern char** environ;

namespace sutor {
namespace {

namespace fs = std::filesystem;

// The folder with tools/: share/sutor of the tree that the program is installed in, the source tree
// that its build folder is in (wherever both were moved), else the one that it was built from.
fs::path tree_of(const std::string& script) {
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  const fs::path beside = program.parent_path().parent_path(), built_in = SUTOR_SOURCE_DIR;
  const fs::path installed = beside / "share" / "sutor";
  for (const fs::path& tree : {installed, beside, built_in}) {
    if (fs::exists(tree / "tools" / script, ignored)) return tree;
  }
  fail(ErrorCode::kNoPythonStep, "tools/{} was found neither in {} nor in {} nor in {}", script,
       installed.string(), beside.string(), built_in.string());
}

std::string find_python(const fs::path& tree, const std::string& script) {
  if (const char* chosen = std::getenv("SUTOR_PYTHON"); chosen && *chosen) {
    if (::access(chosen, X_OK) == 0) return chosen;
    fail(ErrorCode::kNoPythonStep, "SUTOR_PYTHON is {}, which is not executable", chosen);
  }
  const fs::path requirements = tree / "requirements.txt";  // an installed tree has this list
  std::error_code ignored;
  const bool installed = fs::exists(requirements, ignored);
  const fs::path venv = tree / (installed ? "venv" : ".venv");
  const std::string python = (venv / "bin" / "python").string();
  if (::access(python.c_str(), X_OK) == 0) return python;
  if (installed) {
    fail(
        ErrorCode::kNoPythonStep,
        "{} does not exist or leads to no Python; tools/{} needs one with the packages of {}. Make "
        "it: `python3 -m venv --clear {}`, then `{}/bin/pip install --no-deps -r {}`; or set "
        "SUTOR_PYTHON to one",
        python, script, requirements.string(), venv.string(), venv.string(), requirements.string());
  }
  fail(ErrorCode::kNoPythonStep,
       "{} does not exist; tools/{} needs a Python with the packages that tools/setup.sh installs. "
       "Run `bash tools/setup.sh`, or set SUTOR_PYTHON to one",
       python, script);
}

}  // namespace

std::vector<std::string> python_command(const std::string& script, const nlohmann::json& job) {
  const fs::path tree = tree_of(script);
  std::string text;
  try {
    text = job.dump();
  } catch (const nlohmann::json::type_error&) {
    fail(ErrorCode::kBadValue,
         "a path or a name is not text in UTF-8, which tools/{} needs: rename it. The job is {}",
         script, dump_json(job));
  }
  // -B: writes no byte code into a source tree that may be read-only or shared.
  return {find_python(tree, script), "-B", (tree / "tools" / script).string(), std::move(text)};
}

namespace {

// How long a script has to end after it was told to, and how long this process waits for a signal
// of its own when one ended the script: a launcher sends it to both.
constexpr std::chrono::seconds kEndSeconds{5};
constexpr std::chrono::milliseconds kOwnSignal{500}, kPoll{5};

// A child has the actions of signals that it would have without us, but for Ctrl-C: this process
// gets it, too, and tells the child to end, without a traceback.
void set_signals(posix_spawnattr_t& attributes) {
  sigset_t defaults, blocked;
  ::sigemptyset(&defaults);
  for (const int number : {SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGPIPE, SIGXFSZ}) {
    ::sigaddset(&defaults, number);
  }
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGINT);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  ::posix_spawnattr_setsigmask(&attributes, &blocked);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
}

}  // namespace

pid_t start_python(const std::vector<std::string>& command, int in, int out) {
  std::vector<char*> arguments;
  for (const std::string& part : command) arguments.push_back(const_cast<char*>(part.c_str()));
  arguments.push_back(nullptr);
  std::fflush(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (in >= 0) posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
  if (out >= 0) posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  set_signals(attributes);
  pid_t child = 0;
  const int error =
      ::posix_spawn(&child, arguments[0], &actions, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    fail(ErrorCode::kNoPythonStep, "{} cannot be started: {}", command[0], std::strerror(error));
  }
  set_child_to_end(child);
  return child;
}

namespace {

// What ended a script that a signal ended, when that is a limit rather than a person: the system
// out of memory, a library that was given no more memory or time.
bool is_limit(int signal) {
  return signal == SIGKILL || signal == SIGABRT || signal == SIGXCPU || signal == SIGVTALRM ||
         signal == SIGPROF;
}

// The exit code of a script, when it is one of those that are documented.
int exit_code_of(int status, const std::string& script) {
  if (WIFEXITED(status)) {
    const int ended_with = WEXITSTATUS(status);
    if (ended_with == kExitOk || ended_with == kExitUsage || ended_with == kExitData ||
        ended_with == kExitResources || ended_with >= 128) {
      return ended_with;
    }
    fail(ErrorCode::kPythonStepDied, "tools/{} ended with the unknown exit code {}", script,
         ended_with);
  }
  const int signal = WTERMSIG(status);
  if (signal == SIGINT || signal == SIGTERM) return 128 + signal;
  const std::string what =
      fmt::format("tools/{} was ended by signal {} ({})", script, signal, ::strsignal(signal));
  if (is_limit(signal)) {
    fail(ErrorCode::kStepLimit,
         "{}: it was out of memory (SUTOR_STEP_MEMORY gives it another number of GiB), or one row "
         "or the tokenizer took too long (SUTOR_ROW_SECONDS)",
         what);
  }
  fail(ErrorCode::kPythonStepDied, "{}", what);
}

// Tells a child to end once a signal asks this process to, and makes it after a while.
class Ending {
 public:
  explicit Ending(pid_t child) : child_(child) {}
  void tell_if_asked() {
    if (stop_signal() == 0) return;
    const auto now = std::chrono::steady_clock::now();
    if (!told_) ::kill(child_, SIGTERM);
    if (!told_) told_ = now;
    if (now - *told_ > kEndSeconds) ::kill(child_, SIGKILL);
  }

 private:
  pid_t child_;
  std::optional<std::chrono::steady_clock::time_point> told_;
};

[[noreturn]] void leave_step(const std::string& script) {
  leave(stop_signal(), "while tools/" + script +
                           " was running, which ended without a result. The same command starts it "
                           "again");
}

// Its exit code; throws E7500 when it was ended because a signal asks this process to stop.
int wait_for(pid_t child, const std::string& script, Ending& ending) {
  int status = 0;
  while (true) {
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child) break;
    if (ended < 0 && errno != EINTR) {
      fail(ErrorCode::kNoPythonStep, "cannot wait for tools/{}: {}", script, std::strerror(errno));
    }
    ending.tell_if_asked();
    note_progress();  // a script that comes to no end meets its own limits
    std::this_thread::sleep_for(kPoll);
  }
  set_child_to_end(0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) {
    for (auto waited = kPoll; stop_signal() == 0 && waited < kOwnSignal; waited += kPoll) {
      std::this_thread::sleep_for(kPoll);
    }
  }
  if (stop_signal() != 0) leave_step(script);
  return exit_code_of(status, script);
}

std::string read_to_end(int fd, Ending& ending) {
  std::string text;
  char buffer[1 << 16];
  while (true) {
    pollfd polled{fd, POLLIN, 0};
    const int ready = ::poll(&polled, 1, /*milliseconds=*/100);
    ending.tell_if_asked();
    note_progress();
    if (ready <= 0) continue;
    const ssize_t count = ::read(fd, buffer, sizeof buffer);
    if (count > 0) text.append(buffer, static_cast<size_t>(count));
    if (count == 0 || (count < 0 && errno != EINTR)) return text;
  }
}

}  // namespace

int run_python_step(const std::string& script, const nlohmann::json& job) {
  const std::vector<std::string> command = python_command(script, job);
  const pid_t child = start_python(command, -1, -1);
  Ending ending(child);
  return wait_for(child, script, ending);
}

PythonOutput read_python_step(const std::string& script, const nlohmann::json& job) {
  const std::vector<std::string> command = python_command(script, job);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    fail(ErrorCode::kWriteFailed, "cannot make a pipe: {}", std::strerror(errno));
  }
  const FileDescriptor reading(ends[0]);
  FileDescriptor writing(ends[1]);
  const pid_t child = start_python(command, -1, writing.get());
  writing.close();  // the child has the last copy, so the text ends when the child closes it
  PythonOutput output;
  Ending ending(child);
  output.text = read_to_end(reading.get(), ending);
  output.exit_code = wait_for(child, script, ending);
  return output;
}

nlohmann::json printed_json(const PythonOutput& output, const std::string& script) {
  ParsedJson parsed = parse_json(output.text);
  if (!parsed.problem.empty()) {
    fail(ErrorCode::kPythonStepDied, "tools/{} printed something else than JSON: {}", script,
         parsed.problem);
  }
  return std::move(parsed.value);
}

ErrorCode step_error(int exit_code) {
  switch (exit_code) {
    case kExitUsage:
      return ErrorCode::kPythonStepUsage;
    case kExitData:
      return ErrorCode::kPythonStepData;
    case kExitResources:
      return ErrorCode::kPythonStepResources;
    default:
      return ErrorCode::kPythonStepDied;
  }
}

}  // namespace sutor
