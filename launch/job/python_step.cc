#include "launch/job/python_step.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/base/file.h"

extern char** environ;

namespace sutor {
namespace {

namespace fs = std::filesystem;

// The source tree: where the program was built lies in it, wherever it has been moved since.
fs::path source_tree(const std::string& script) {
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  const fs::path built_in = SUTOR_SOURCE_DIR;
  for (const fs::path& tree : {program.parent_path().parent_path(), built_in}) {
    if (fs::exists(tree / "tools" / script, ignored)) return tree;
  }
  fail(ErrorCode::kNoPythonStep, "tools/{} was found neither beside {} nor under {}", script,
       program.string(), built_in.string());
}

std::string find_python(const fs::path& tree, const std::string& script) {
  if (const char* chosen = std::getenv("SUTOR_PYTHON"); chosen && *chosen) {
    if (::access(chosen, X_OK) == 0) return chosen;
    fail(ErrorCode::kNoPythonStep, "SUTOR_PYTHON is {}, which is no program that can be run",
         chosen);
  }
  const std::string python = (tree / ".venv" / "bin" / "python").string();
  if (::access(python.c_str(), X_OK) == 0) return python;
  fail(ErrorCode::kNoPythonStep,
       "{} does not exist; tools/{} needs a Python with the packages that tools/setup.sh installs. "
       "Run `bash tools/setup.sh`, or set SUTOR_PYTHON to one",
       python, script);
}

std::vector<std::string> command_of(const std::string& script, const nlohmann::json& job) {
  const fs::path tree = source_tree(script);
  // -B: no byte code is left in a source tree that may be read-only or shared.
  return {find_python(tree, script), "-B", (tree / "tools" / script).string(), job.dump()};
}

// Starts a program; its stdout is `out` unless that is negative.
pid_t start(const std::vector<std::string>& command, int out) {
  std::vector<char*> arguments;
  for (const std::string& part : command) arguments.push_back(const_cast<char*>(part.c_str()));
  arguments.push_back(nullptr);
  std::fflush(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (out >= 0) posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  pid_t child = 0;
  const int error =
      ::posix_spawn(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    fail(ErrorCode::kNoPythonStep, "{} cannot be started: {}", command[0], std::strerror(error));
  }
  return child;
}

int wait_for(pid_t child, const std::string& program) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) {
      fail(ErrorCode::kNoPythonStep, "{}: its end was not seen: {}", program, std::strerror(errno));
    }
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string read_to_end(int fd) {
  std::string text;
  char buffer[1 << 16];
  while (true) {
    const ssize_t count = ::read(fd, buffer, sizeof buffer);
    if (count > 0) text.append(buffer, static_cast<size_t>(count));
    if (count == 0 || (count < 0 && errno != EINTR)) return text;
  }
}

}  // namespace

int run_python_step(const std::string& script, const nlohmann::json& job) {
  const std::vector<std::string> command = command_of(script, job);
  return wait_for(start(command, -1), command[0]);
}

PythonOutput read_python_step(const std::string& script, const nlohmann::json& job) {
  const std::vector<std::string> command = command_of(script, job);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    fail(ErrorCode::kWriteFailed, "no pipe: {}", std::strerror(errno));
  }
  const FileDescriptor reading(ends[0]);
  FileDescriptor writing(ends[1]);
  const pid_t child = start(command, writing.get());
  writing.close();  // the child's copy is the last: its end is the end of the text
  PythonOutput output;
  output.text = read_to_end(reading.get());
  output.exit_code = wait_for(child, command[0]);
  return output;
}

}  // namespace sutor
