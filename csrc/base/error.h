// The one exception type of sutor, and the exit codes that the program documents.
// An error code has four digits; its first two are the exit code: E0201 exits 2, E0305 exits 3.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace sutor {

enum ExitCode : int {
  kExitOk = 0,
  kExitCheckFailed = 1,  // a check that the user asked for failed (--verify, diff)
  kExitUsage = 2,        // recipe or command line
  kExitData = 3,         // data, model directory or checkpoint is invalid (verify says so too)
  kExitBusy = 4,         // directory in use by another job
  kExitResources = 5,    // out of memory or disk
  kExitComm = 6,         // communication
  kExitDiverged = 7,     // training diverged
  kExitInternal = 70,    // a bug in sutor
  kExitStopped = 75,     // stopped on request after saving: requeue me
};

class Error : public std::runtime_error {
 public:
  // code: e.g. 201 for E0201. `local`: only this rank knows of it (a bad file on one node), so the
  // job has to be ended for the others; else every rank throws the same error.
  Error(int code, const std::string& message) : std::runtime_error(message), code_(code) {}
  int code() const { return code_; }
  int exit_code() const { return code_ / 100; }
  // "error[E0201]: message"; a message that starts with "file:line:col: " keeps that in front.
  std::string report() const;

 private:
  int code_;
};

// Throws Error(code, formatted message). Say what was expected, what was found, where, how to mend.
template <typename... Args>
[[noreturn]] void fail(int code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

[[noreturn]] void internal_error(const char* file, int line, const char* condition);

}  // namespace sutor

// For our own invariants only; user input never trips it. Exit 70.
#define SUTOR_ASSERT(condition) \
  ((condition) ? void(0) : ::sutor::internal_error(__FILE__, __LINE__, #condition))
