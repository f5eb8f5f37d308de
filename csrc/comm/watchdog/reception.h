// The door of a monitor: where the ranks of the job come to, and strangers as well.
//
// Who connects gets a challenge and answers with its rank and a keyed hash of both; the key is the
// job's token, which goes to the ranks over MPI and never through the door. This keeps out whoever
// can reach the port but not read the job's memory or its MPI traffic; it does not protect against
// someone who changes packets on the way. Before its answer a connection has a line of at most 256
// bytes, a few seconds, and one of a few dozen places. Once all ranks are in, every further
// connection is a stranger's, and is closed with the next heartbeat: strangers change nothing, cost
// next to nothing, and are counted.
#pragma once

#include <poll.h>

#include <string>
#include <vector>

#include "csrc/comm/watchdog/line_socket.h"

namespace sutor {

class Reception {
 public:
  // ranks: of the job. monitor: the rank behind this door, which does not come to it.
  Reception(std::vector<LineListener> listeners, std::string token, int ranks, int monitor);

  struct Arrival {
    int rank = 0;
    LineSocket socket;
  };
  // Accepts, hears answers, and turns away; returns the ranks that have come in. tick: a heartbeat
  // is due.
  std::vector<Arrival> admit(double now, bool tick);

  void add_to(std::vector<pollfd>& polled) const;
  int64_t strangers() const { return strangers_; }
  bool complete() const { return missing_ == 0; }
  // "10.0.0.1:4242, 127.0.0.1:4243"
  std::string address() const;

 private:
  struct Guest {
    LineSocket socket;
    size_t listener = 0;
    std::string challenge;
    double since = 0;
    int rank = -1;  // once it has answered
  };
  void accept_guests(double now);
  void turn_away_all();
  // Whether the guest may stay: it is in, or has not answered yet.
  bool hear(Guest& guest, double now);
  int rank_of_answer(const std::string& line, const std::string& challenge) const;
  void close_unused_doors();

  std::vector<LineListener> listeners_;
  std::vector<bool> used_;  // by listener: a rank came through it
  std::string token_;
  std::vector<bool> in_;  // by rank
  int missing_;
  const int monitor_;
  std::vector<Guest> guests_;  // the oldest first
  int64_t strangers_ = 0;
};

// The answer of this rank to a monitor's challenge.
std::string answer_to(const std::string& token, const std::string& challenge, int rank,
                      int monitor);

}  // namespace sutor
