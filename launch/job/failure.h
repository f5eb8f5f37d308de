// Turns exceptions into messages and exit codes.
#pragma once

#include <functional>
#include <string>

namespace sutor {

struct Failure {
  int exit_code = 0;    // kExitOk when `body` returned it
  std::string message;  // empty when nothing was thrown
  bool told = false;    // a Python step has printed its own: this one would say less
};

// Runs `body` and turns what it throws into a message and an exit code.
Failure failure_of(const std::function<int()>& body);

// Prints to stderr, after flushing stdout.
void print_failure(const std::string& message);
// The same, unless it is told already.
void print_failure(const Failure& failure, const std::string& start = "");

// kExitOk, or what it means that stdout could not be written, and says so.
int console_exit_code();

// Runs `body` in this process, without other ranks; prints its error and returns the exit code. A
// signal may end it between tasks that it shares out (csrc/base/process/stop_signal.h).
int run_alone(const std::function<int()>& body);

}  // namespace sutor
