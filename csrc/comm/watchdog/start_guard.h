// Watches the start of a job, from before MPI's to the moment when the watchdogs of the ranks are
// connected: until then nothing else notices a rank that is stopped, hangs, or never comes.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "csrc/comm/watchdog/heartbeat_monitor.h"

namespace sutor {

// Another rank of this job on this host, as /proc shows it.
struct Sibling {
  int rank = 0;
  int64_t pid = 0;
  char state = 'R';  // as in /proc; T: stopped
};

// The ranks below the same launcher process as this one, itself included; empty without a launcher.
std::vector<Sibling> siblings_on_this_host();

class StartGuard {
 public:
  // Its thread ends this process with a report and exit code 6 when a rank on this host has been
  // stopped for SUTOR_HEARTBEAT_TIMEOUT, or when the start takes longer than SUTOR_COMM_TIMEOUT,
  // or, once all ranks have started (see all_started()), than SUTOR_HEARTBEAT_TIMEOUT.
  explicit StartGuard(const WatchLimits& limits);
  // The start is over.
  ~StartGuard();
  StartGuard(const StartGuard&) = delete;
  StartGuard& operator=(const StartGuard&) = delete;

  // MPI has found all ranks: from here they have only a little to do before they are connected.
  void all_started();

 private:
  void run();
  bool wait(double seconds);
  [[noreturn]] void end(const std::string& report, const std::vector<Sibling>& siblings);

  const WatchLimits limits_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::atomic<bool> all_started_ = false;
  std::thread thread_;
};

}  // namespace sutor
