// A process beside the job that is told lines of text and must never hold the job up: one that is
// slow, hangs or is dead costs lines, not time.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "csrc/base/file.h"

namespace sutor {

class SideProcess {
 public:
  // Starts `command` in a session of its own, so that signals to the job's terminal are not for it.
  // It reads lines from stdin until that ends; what it prints goes to the end of `log`. Throws
  // E0232 when it cannot be started.
  SideProcess(const std::vector<std::string>& command, const std::filesystem::path& log);
  // Ends its input, and leaves it to itself.
  ~SideProcess();
  SideProcess(const SideProcess&) = delete;
  SideProcess& operator=(const SideProcess&) = delete;

  // Puts a line in the queue for it; never waits. A line is dropped when the process has ended, or
  // when 8 MiB of lines wait already.
  void send(const std::string& line);
  // Ends its input after the last line, and waits until it has ended: at most `limit`, then it is
  // left to itself. Returns whether it ended with exit code 0.
  bool finish(std::chrono::milliseconds limit);
  // Why lines were dropped, or finish() returned false; nothing when all went well so far.
  std::optional<std::string> trouble() const;

 private:
  void write_lines();
  bool write_line(const std::string& line);
  void note(const std::string& trouble);  // the first is kept
  bool has_ended();                       // sets exit_

  pid_t child_ = 0;
  std::optional<int> exit_;  // its status, once it was waited for
  FileDescriptor input_;     // of the child, not blocking; of the thread alone
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> lines_;
  size_t bytes_ = 0;  // of `lines_`
  bool closing_ = false, abandoned_ = false, done_ = false;
  std::optional<std::string> trouble_;
  std::thread writer_;
};

}  // namespace sutor
