#include "launch/job/failure.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "csrc/base/error.h"
#include "csrc/base/process/console.h"
#include "csrc/base/process/help_hint.h"
#include "csrc/base/process/stop_signal.h"
#include "launch/job/current_error.h"

namespace sutor {
namespace {

// What says only that a script has said what is wrong.
bool is_told(ErrorCode code) {
  return code == ErrorCode::kPythonStepUsage || code == ErrorCode::kPythonStepData ||
         code == ErrorCode::kPythonStepResources;
}

}  // namespace

Failure failure_of(const std::function<int()>& body) {
  try {
    return {body(), ""};
  } catch (...) {
    const Error error = current_error();
    return {error.exit_code(), error.report(), is_told(error.code())};
  }
}

void print_failure(const std::string& message) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s\n", message.c_str());
  print_help_hint(message);
  std::fflush(stderr);
}

void print_failure(const Failure& failure, const std::string& start) {
  if (!failure.message.empty() && !failure.told) print_failure(start + failure.message);
}

int console_exit_code() {
  const int error = console_error();
  if (error == 0) return kExitOk;
  const bool full = error == ENOSPC || error == EDQUOT;
  print_failure(
      fmt::format("error[{}]: stdout cannot be written: {}. What was printed is incomplete",
                  full ? ErrorCode::kDiskFull : ErrorCode::kWriteFailed, std::strerror(error)));
  return kExitResources;
}

int run_alone(const std::function<int()>& body) {
  const Interruptible here;
  const Failure result = failure_of(body);
  print_failure(result);
  return result.exit_code;
}

}  // namespace sutor
