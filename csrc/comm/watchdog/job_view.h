// What a watchdog knows of all ranks of the job, from their beats, and the sentences it says about
// them when something is wrong. Plain data and text: no sockets, no threads, no MPI.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "csrc/comm/journal.h"
#include "csrc/comm/watchdog/process_identity.h"

namespace sutor {

// Turns a rank's journal into beats: lines that JobView::take() understands. A group is described
// once, before the first beat that refers to it.
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
  double heard = 0;       // when it last gave a sign of life
  double died = 0;        // when its end was seen
  bool reported = false;  // a headline has named it
  std::vector<JournalGroup> groups;
  std::vector<int64_t> counts;          // of begun collectives, by group
  std::optional<JournalRecord> newest;  // its times are those of this process's clock
  int failing = 0;                      // the exit code with which it is about to end the job
  double failing_since = 0;
  bool aborting = false;  // its message is printed
};

class JobView {
 public:
  JobView(std::vector<ProcessIdentity> processes, double now);

  int size() const { return static_cast<int>(ranks_.size()); }
  RankView& rank(int r) { return ranks_.at(static_cast<size_t>(r)); }
  const RankView& rank(int r) const { return ranks_.at(static_cast<size_t>(r)); }
  std::vector<int> in_state(RankView::State state) const;

  // The rank's connection closed; one that has said goodbye is none the worse.
  void lose(int rank, double now);
  // A line of HeartbeatWriter from this rank.
  void take(int rank, const nlohmann::json& line, double now);
  // The watchdog itself was held up for so long: nobody else is to blame for the silence.
  void extend_deadlines(double seconds);

  // Of the ranks that are dead or silent, in the order of their deaths: who, where, since when, in
  // which operation last seen. Each rank is named once.
  std::string headline(double now);
  // Who waits in which operation for whom, who computes, who died since the headline.
  std::string waiting(double now) const;
  // Every rank that lives waits for one that has not come: nothing will change any more.
  bool settled() const;
  // The report of an operation that has been waited for longer than `limit`; empty when there is
  // none.
  std::string slow(double limit, double now) const;
  // Ranks of a group that are in different operations under the same number, or that all wait for
  // one another, unmoved for `deadlock_seconds`; empty when all is well.
  std::string disorder(double deadlock_seconds, double now) const;

 private:
  bool waits(int rank) const;
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
