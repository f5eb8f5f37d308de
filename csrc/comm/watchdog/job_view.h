// What a monitor knows of all ranks of the job from their heartbeats, and the sentences of its
// reports. Plain data and text: no sockets, no threads, no MPI.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "csrc/comm/journal.h"
#include "csrc/comm/watchdog/process_identity.h"

namespace sutor {

// Turns a rank's journal into heartbeats: lines that JobView::take() understands. A group is
// described once, before the first heartbeat that refers to it.
class HeartbeatWriter {
 public:
  std::vector<std::string> lines(const Journal& journal);

 private:
  int described_ = 0;
};

struct RankView {
  enum class State { kRunning, kDead, kSilent, kFinished };
  ProcessIdentity process;
  State state = State::kRunning;
  double heard = 0;       // time of its last heartbeat
  double died = 0;        // time when its connection closed
  bool reported = false;  // a headline has named it
  std::vector<JournalGroup> groups;
  std::vector<int64_t> counts;          // of begun collectives, by group
  std::optional<JournalRecord> newest;  // with times of this process's clock
  int failing = 0;                      // the exit code with which it is about to end the job
  double failing_since = 0;
  bool aborting = false;  // its message is printed
  uint64_t progress = 0;  // progress_notes() of its process
  double progressed = 0;  // when that was last seen to change
};

class JobView {
 public:
  JobView(std::vector<ProcessIdentity> processes, double now);

  int size() const { return static_cast<int>(ranks_.size()); }
  RankView& rank(int r) { return ranks_.at(static_cast<size_t>(r)); }
  const RankView& rank(int r) const { return ranks_.at(static_cast<size_t>(r)); }
  std::vector<int> in_state(RankView::State state) const;

  // The rank's connection closed: it died, unless it has deregistered.
  void lose(int rank, double now);
  // Handles a line of this rank's HeartbeatWriter.
  void take(int rank, const nlohmann::json& line, double now);
  // The monitor itself was delayed by so much, which is not to count as the ranks' silence.
  void extend_deadlines(double seconds);

  // Names the ranks that are dead, in the order of their deaths, or silent: who, where, since when,
  // in which operation last seen. Marks them as reported.
  std::string headline(double now);
  // Who waits in which operation for whom, who computes, who died since the headline.
  std::string waiting(double now) const;
  // Whether every living rank waits for one that has not come, so that nothing will change any
  // more.
  bool settled() const;
  // Reports the operation that a rank has been waiting in longest, if longer than `limit`; else
  // empty. As long as a rank that it waits for comes forward (base/process/progress.h), as one that
  // tokenizes or reads a large model does, the wait begins anew.
  std::string slow(double limit, double now) const;
  // Reports ranks of a group that are in different operations of the same number, or that all have
  // been waiting for one another for `deadlock_seconds`; empty when all is well.
  std::string disorder(double deadlock_seconds, double now) const;

 private:
  bool waits(int rank) const;
  // How long it has waited without progress of those that it waits for.
  double waited(int rank, double now) const;
  // World ranks without which the operation that this rank is in cannot end.
  std::vector<int> waits_for(int rank) const;
  int64_t count_of(int rank, const JournalGroup& group) const;
  std::string last_seen(int rank, double now) const;
  std::string operation_text(int rank) const;
  std::string different_operations() const;

  std::vector<RankView> ranks_;
};

// "0-3, 7"
std::string ranks_text(std::span<const int> ranks);

}  // namespace sutor
