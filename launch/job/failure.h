// Exceptions become messages and exit codes.
#pragma once

#include <functional>
#include <string>

namespace sutor {

struct Failure {
  int exit_code = 0;    // kExitOk when `body` returned it
  std::string message;  // empty when nothing was thrown
};

// Runs `body`; what it throws becomes a message and an exit code.
Failure failure_of(const std::function<int()>& body);

// To stderr, after what stdout still holds.
void print_failure(const std::string& message);

// Runs `body` in this process alone; errors become messages and exit codes.
int run_alone(const std::function<int()>& body);

}  // namespace sutor
