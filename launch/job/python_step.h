// Runs the Python halves of verbs: a script of tools/, with one JSON object that says what to do.
// Python is $SUTOR_PYTHON, else share/sutor/venv/bin/python of the tree that the program is
// installed in, else .venv/bin/python of the source tree; both functions throw E0232
// when it or the script does not exist, E0205 for a job with bytes that are not UTF-8, E0504 when a
// limit ended the script by a signal, and E7099 when it died otherwise. A script prints its own
// errors to stderr and exits with their exit code; 130 and 143 stand for SIGINT and SIGTERM. When a
// signal asks this process to stop, the script is told to end, and both throw E7500.
#pragma once

#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "csrc/base/error_codes.h"

namespace sutor {

// For those who keep a script running (python_dialog.h, side_process.h): the command line that
// starts it, and its start with these file descriptors as stdin and stdout (negative: those of this
// process). The child is one that a second signal ends, too (csrc/base/process/stop_signal.h).
std::vector<std::string> python_command(const std::string& script, const nlohmann::json& job);
pid_t start_python(const std::vector<std::string>& command, int in, int out);

// Runs tools/<script> with `job`; it inherits stdout. Returns its exit code.
int run_python_step(const std::string& script, const nlohmann::json& job);

struct PythonOutput {
  int exit_code = 0;
  std::string text;  // its stdout
};

// The same for a script whose stdout is the result.
PythonOutput read_python_step(const std::string& script, const nlohmann::json& job);

// The JSON that a script printed. Throws E7099 when it is none.
nlohmann::json printed_json(const PythonOutput& output, const std::string& script);

// The error with which a job ends after a script ended with `exit_code` (not 0) and said why.
ErrorCode step_error(int exit_code);

}  // namespace sutor
