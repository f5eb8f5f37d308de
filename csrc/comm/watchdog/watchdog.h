// Watchdog: a control plane beside MPI, which says nothing of peers that died or stopped. A thread
// of every rank sends beats to two hubs (heartbeat_monitor.h); a hub that sees a rank die (its
// connection closes), stop (no beat), or wait for too long prints one report, and all ranks end
// with exit code
// 6. An error that a rank has itself comes first: its message and its exit code win.
// SUTOR_WATCHDOG=off leaves it out.
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
  // Collective over the world. Nothing when it is switched off.
  static std::unique_ptr<Watchdog> start(Comm& world, const Journal& journal);
  // Without a goodbye() before, the other ranks take it for death.
  ~Watchdog();

  // This rank has an error and is about to end the job with this code; 0: not any more.
  void failing(int exit_code);
  // It has printed its error: the others end with this code, if the launcher does not end them.
  void aborting(int exit_code);
  // All ranks have come to MPI_Finalize, which begins now. When it does not end the watchdog tells
  // the launcher so in its place, and ends this process with this exit code: MPICH 4.0 over UCX/TCP
  // hangs there in most jobs of several hosts, as its ranks stop serving connections while others
  // still close theirs.
  void finalizing(int exit_code);
  // After MPI_Finalize: returns when both hubs know that this rank ends well.
  void deregister();

 private:
  struct Uplink {
    LineSocket socket;
    int rank = 0;  // of the hub
    HeartbeatWriter heartbeats;
    double heard = 0;
    double lost_since = 0;      // 0: it is there
    bool deregistered = false;  // it ends well
  };

  Watchdog(const Journal& journal, WatchedJob job, const WatchLimits& limits);
  void connect(const std::vector<std::vector<std::string>>& addresses,
               const std::vector<int>& ports);
  void run();
  bool leave_now();
  void send_commands();
  void send_heartbeat(Uplink& uplink);
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

  std::mutex mutex_;  // guards the lines that the main thread wants sent
  std::vector<std::string> commands_;
  std::condition_variable sent_;
  bool sending_ = false;  // commands_ was taken, and is on its way
  std::atomic<bool> leaving_ = false, stop_ = false;
  double leaving_since_ = 0;
  const pthread_t main_thread_ = ::pthread_self();
  std::atomic<double> finalizing_since_ = 0;  // 0: not yet
  std::atomic<int> exit_code_ = 0;
  std::thread thread_;
};

}  // namespace sutor
