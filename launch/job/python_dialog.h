// A script of tools/ that stays: it answers a JSON value a line on its stdin with one on its
// stdout. See python_step.h for interpreter, errors and limits.
#pragma once

#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <string>

#include "csrc/base/file.h"

namespace sutor {

class PythonDialog {
 public:
  // Starts tools/<script> with `job`. Throws as run_python_step().
  PythonDialog(std::string script, const nlohmann::json& job);
  // Closes its stdin, upon which it ends; ends it after a while otherwise.
  ~PythonDialog();
  PythonDialog(const PythonDialog&) = delete;
  PythonDialog& operator=(const PythonDialog&) = delete;

  // Sends a value and returns the answer. Throws the error of its exit code when the script ended
  // instead, having said why, and E7099 when it answered something else than JSON.
  nlohmann::json ask(const nlohmann::json& request);
  // What the script says of itself before it is asked.
  nlohmann::json read();

 private:
  [[noreturn]] void fail_ended();

  std::string script_;
  FileDescriptor socket_;
  pid_t child_ = 0;
  std::string pending_;  // what was read beyond the last line
};

}  // namespace sutor
