// Journal: the operations of this process on its communicators, each with its number within its
// group. The newest operations stay in a ring buffer, for the watchdog and its reports; all of them
// are kept when a test asks for it. A process has one journal: the world communicator makes it and
// shares it with its subgroups. All calls are thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "csrc/comm/fault.h"

namespace sutor {

// Identifies a communicator, equally on all its ranks.
struct JournalGroup {
  std::string name;        // world, ep, dp ...
  std::vector<int> ranks;  // of the world, in the group's order
  int ordinal = 0;         // number of earlier groups of the same name and ranks
};

enum class OperationKind : uint8_t { kCollective, kSend, kReceive };

struct JournalRecord {
  static constexpr size_t kNameLength = 40;  // longer names are truncated
  char name[kNameLength] = "";
  int group = 0;                                    // index of Journal::group()
  OperationKind kind = OperationKind::kCollective;  // a kSend is done when it is on its way
  int peer = -1;                                    // world rank of the other side, -1: collective
  // From 1, among the group's collectives or the messages of this kind and peer.
  int64_t number = 0;
  bool on_device = false;  // handed over: the rank goes on, and the operation too, on a device
  bool done = false;
  double begun = 0, ended = 0;  // Journal::now()
};

class Journal {
 public:
  explicit Journal(int world_rank);

  // Adds a group of these world ranks; returns its index in this process.
  int add_group(const std::string& name, std::vector<int> ranks);

  // An operation is in progress while this object lives. One that an exception ends stays open.
  class Operation {
   public:
    Operation(Journal& journal, int group, OperationKind kind, const char* name, int peer = -1);
    Operation(const Operation&) = delete;
    ~Operation();
    // It outlives this object, on a device, until Journal::end() gets what this returns.
    int64_t hand_over();

   private:
    Journal& journal_;
    int exceptions_;
    int64_t index_;
    bool handed_over_ = false;
  };
  void end(int64_t operation);

  static constexpr size_t kRing = 64;
  std::vector<JournalRecord> ring() const;  // oldest first
  std::optional<JournalRecord> newest() const;
  // What this rank waits in: the operation that the host is in, else the oldest one that a device
  // has not finished, else none, and this is the newest one.
  std::optional<JournalRecord> current() const;
  JournalGroup group(int index) const;
  int num_groups() const;
  // The number of collectives begun in each group, by index.
  std::vector<int64_t> counts() const;
  // A digest of the names of the group's collectives so far, in order: a cheap test of equal order.
  uint64_t digest(int group) const;

  // For tests: keeps all records from now on. SUTOR_JOURNAL=<folder> does so from the start and
  // writes them to <folder>/rank-<r>.jsonl at the end of the job.
  void keep_all();
  std::vector<JournalRecord> all() const;
  void forget_all();  // and keeps those that follow
  // One JSON object per line: name, group, ranks, ordinal, kind, peer, number.
  std::string text() const;
  void write_if_asked() const;

  static double now();  // seconds of the steady clock

 private:
  struct GroupState {
    JournalGroup group;
    int64_t collectives = 0;
    uint64_t digest = 0;
    std::vector<int64_t> sent, received;  // by position in the group
  };
  int64_t begin(int group, OperationKind kind, const char* name, int peer);
  void hand_over(int64_t operation);
  // Of an operation in all_; null when that does not have it.
  JournalRecord* kept(int64_t operation);
  JournalRecord& slot(int64_t index) { return ring_[static_cast<size_t>(index) % kRing]; }

  const int rank_;
  const FaultPlan faults_;
  mutable std::mutex mutex_;
  std::vector<GroupState> groups_;
  std::array<JournalRecord, kRing> ring_;
  int64_t total_ = 0;
  std::map<int64_t, JournalRecord> open_;  // by index; without what an exception ended
  bool keep_all_ = false;
  std::vector<JournalRecord> all_;
};

}  // namespace sutor
