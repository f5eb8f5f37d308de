// The monitor of heartbeats, on two ranks of a job: receives the heartbeats of all ranks, and ends
// the job with a report when one of them died, stopped, or never comes to an operation. The second
// monitor acts when the first one does not. Runs in the watchdog's thread and never calls MPI.
#pragma once

#include <poll.h>

#include <functional>
#include <string>
#include <vector>

#include "csrc/comm/watchdog/job_view.h"
#include "csrc/comm/watchdog/reception.h"

namespace sutor {

struct WatchLimits {
  double heartbeat = 0.5;  // seconds between heartbeats
  double silence = 20;    // SUTOR_HEARTBEAT_TIMEOUT: a rank without a heartbeat for so long stopped
  double wait = 1800;     // SUTOR_COMM_TIMEOUT: the longest time in one operation
  double deadlock = 60;   // all ranks wait for one another for so long
  double same_error = 5;  // a rank that fails has this long to print its message
  double after_abort = 2;     // the launcher has this long to end the job after a rank gave up
  double second_monitor = 8;  // the second monitor acts so much later than the first one
  double after_first = 0.5;   // ... when the first one died after others: the launcher kills all

  static WatchLimits from_environment();
};

struct WatchedJob {
  std::vector<ProcessIdentity> processes;  // by rank
  int own_rank = 0, first_monitor = 0, second_monitor = 1;
  std::string token;  // the key of what ranks answer to a monitor's challenge (reception.h)
};

class HeartbeatMonitor {
 public:
  HeartbeatMonitor(std::vector<LineListener> listeners, const WatchedJob& job,
                   const WatchLimits& limits, const Journal& journal);

  void add_to(std::vector<pollfd>& polled) const;
  // Accepts new connections and reads what has arrived.
  void pump();
  // Handles a line of this rank itself.
  void take_own(const std::string& line);
  // Once per heartbeat interval: answers the ranks and looks for silent and slow ones.
  void tick();
  // After every pump(): ends the job when it is due.
  void end_job_if_due();
  // The watchdog's own thread was delayed by so much.
  void extend_deadlines(double seconds) { view_.extend_deadlines(seconds); }

  bool all_deregistered() const;
  void acknowledge_deregistration();
  // Says how many strangers came to the door since it last said so; the first one at once.
  void report_strangers(bool at_end);

 private:
  using Peer = Reception::Arrival;
  void take(Peer& peer, const std::string& line);
  void take_line(int rank, const std::string& line);
  void read_from(Peer& peer);
  void send_all(const std::string& line);
  void take_own_heartbeat();
  int failing_code() const;
  bool is_first() const { return job_.own_rank == job_.first_monitor; }
  double takeover_delay() const;
  bool answered_since(double asked) const;
  [[noreturn]] void report_and_end(const std::string& headline);
  [[noreturn]] void end_job(int exit_code);
  void pump_for(double seconds, const std::function<bool()>& enough);

  WatchedJob job_;
  Reception reception_;
  WatchLimits limits_;
  JobView view_;
  std::vector<Peer> peers_;
  const Journal& journal_;
  HeartbeatWriter own_heartbeats_;
  std::string disorder_;      // a report of what is wrong although all ranks live
  double trouble_since_ = 0;  // 0: none
  bool due_ = false;          // a heartbeat is
  int64_t reported_strangers_ = 0;
};

}  // namespace sutor
