// Watchdog: a control plane beside MPI, which does not report peers that died or stopped. A thread
// of every rank sends heartbeats to two monitors (heartbeat_monitor.h). A monitor that sees a rank
// die (its connection closes), stop (no heartbeat), or wait for too long prints one report, and all
// ranks end with exit code 6. A rank's own error takes precedence with its message and exit code.
// SUTOR_WATCHDOG=off leaves the watchdog out.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "csrc/comm/comm.h"
#include "csrc/comm/watchdog/heartbeat_monitor.h"

namespace sutor {

class Watchdog {
 public:
  // Collective over the world. Null when it is switched off.
  static std::unique_ptr<Watchdog> start(Comm& world, const Journal& journal);
  // Without deregister() before, the other ranks take this rank for dead.
  ~Watchdog();

  // This rank has an error and is about to end the job with this code; 0: no longer.
  void failing(int exit_code);
  // This rank has printed its error: the others end with this code if the launcher does not end
  // them.
  void aborting(int exit_code);
  // All ranks have come to MPI_Finalize, which begins now. If it does not end, the watchdog tells
  // the launcher what it would have told it and ends this process with this exit code: MPICH 4.0
  // over UCX/TCP hangs there in most jobs of several hosts, because its ranks stop serving
  // connections while others still close theirs.
  void finalizing(int exit_code);
  // After MPI_Finalize: returns when both monitors know that this rank ends regularly.
  void deregister();

 private:
  struct Uplink {
    LineSocket socket;
    int rank = 0;  // of the monitor
    HeartbeatWriter heartbeats;
    double heard = 0;
    double lost_since = 0;      // 0: connected
    bool deregistered = false;  // the monitor has acknowledged it
    std::vector<std::string> endpoints;
    bool welcome = false;           // the monitor has taken this rank in
    std::vector<std::string> held;  // lines for the time when it is
  };

  Watchdog(const Journal& journal, WatchedJob job, const WatchLimits& limits);
  void connect(const std::vector<std::vector<std::string>>& endpoints);
  void run();
  bool leave_now();
  void send_commands();
  void send_heartbeat(Uplink& uplink);
  void send(Uplink& uplink, const std::string& line);
  bool connect_again(Uplink& uplink);
  void leave_without_mpi();
  void read_from(Uplink& uplink);
  void take(Uplink& uplink, const std::string& line);
  void check_monitors();
  void post(const std::string& line);
  void wait_for_events(double until);

  const Journal& journal_;
  const WatchedJob job_;
  const WatchLimits limits_;
  std::optional<HeartbeatMonitor> monitor_;
  std::vector<Uplink> uplinks_;
  FileDescriptor wake_;

  std::mutex mutex_;  // guards the lines that the main thread wants to send
  std::vector<std::string> commands_;
  std::condition_variable sent_;
  bool sending_ = false;  // the thread has taken commands_ and is sending them
  std::atomic<bool> leaving_ = false, stop_ = false;
  double leaving_since_ = 0;
  const double started_ = Journal::now();
  const pthread_t main_thread_ = ::pthread_self();
  std::atomic<double> finalizing_since_ = 0;  // 0: not yet
  std::atomic<int> exit_code_ = 0;
  std::thread thread_;
};

}  // namespace sutor
