// The listening side of the watchdog, on two ranks of a job: takes the beats of all ranks, and ends
// the job with a report when one of them died, stopped, or never comes to an operation. The second
// hub acts when the first one does not. Runs in the watchdog's thread and never calls MPI.
#pragma once

#include <poll.h>

#include <functional>
#include <string>
#include <vector>

#include "csrc/comm/watchdog/job_view.h"
#include "csrc/comm/watchdog/line_socket.h"

namespace sutor {

struct WatchLimits {
  double heartbeat = 0.5;     // seconds between beats
  double silence = 20;        // SUTOR_HEARTBEAT_TIMEOUT: without a beat for so long = stopped
  double wait = 1800;         // SUTOR_COMM_TIMEOUT: the longest time in one operation
  double deadlock = 60;       // all ranks waiting for one another, unmoved
  double same_error = 5;      // a rank that fails has this long to print its message
  double after_abort = 2;     // the launcher has this long to end the job of a rank that gave up
  double second_monitor = 8;  // so much later than the first one does the second one act
  double after_first =
      0.5;  // ... when the first one died after others: the launcher kills them all

  static WatchLimits from_environment();
};

struct WatchedJob {
  std::vector<ProcessIdentity> processes;  // by rank
  int own_rank = 0, first_monitor = 0, second_monitor = 1;
  std::string token;  // what a rank says first; others that connect are turned away
};

class HeartbeatMonitor {
 public:
  HeartbeatMonitor(LineListener listener, const WatchedJob& job, const WatchLimits& limits,
                   const Journal& journal);

  void add_to(std::vector<pollfd>& polled) const;
  // Accepts and reads whatever has come.
  void pump();
  // A line of this rank itself.
  void take_own(const std::string& line);
  // Once a beat: answers the ranks, looks for silent and slow ones.
  void tick();
  // After every pump(): ends the job when it is time.
  void end_job_if_due();
  // The watchdog's own thread was held up for so long.
  void extend_deadlines(double seconds) { view_.extend_deadlines(seconds); }

  bool all_deregistered() const;
  void acknowledge_deregistration();

 private:
  struct Peer {
    LineSocket socket;
    int rank = -1;  // before its first line
  };
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

  LineListener listener_;
  WatchedJob job_;
  WatchLimits limits_;
  JobView view_;
  std::vector<Peer> peers_;
  const Journal& journal_;
  HeartbeatWriter own_heartbeats_;
  std::string disorder_;      // what is wrong though all ranks live
  double trouble_since_ = 0;  // 0: none
};

}  // namespace sutor
