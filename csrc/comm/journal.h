// Journal: what this process asked of its communicators, operation by operation, each with its
// number within its group. The newest operations stay in a ring, for the watchdog and its reports;
// all of them are kept when a test asks for it. One journal a process: the world communicator makes
// it and shares it with its subgroups. All calls are safe from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "csrc/comm/fault.h"

namespace sutor {

// A communicator, as all its ranks know it.
struct JournalGroup {
  std::string name;        // world, ep, dp ...
  std::vector<int> ranks;  // of the world, in the group's order
  int ordinal = 0;         // how many groups of that name and these ranks there were before
};

enum class OperationKind : uint8_t { kCollective, kSend, kReceive };

struct JournalRecord {
  static constexpr size_t kNameLength = 40;  // longer names are cut
  char name[kNameLength] = "";
  int group = 0;                                    // index of Journal::group()
  OperationKind kind = OperationKind::kCollective;  // kSend is done when it is on its way
  int peer = -1;                                    // world rank of the other side, -1: collective
  int64_t number =
      0;  // from 1, of the group's collectives or of the messages of this kind and peer
  bool done = false;
  double begun = 0, ended = 0;  // Journal::now()
};

class Journal {
 public:
  explicit Journal(int world_rank);

  // A new group of these world ranks; returns its index in this process.
  int add_group(const std::string& name, std::vector<int> ranks);

  // While it lives, an operation is under way. One that ends by an exception stays "started".
  class Operation {
   public:
    Operation(Journal& journal, int group, OperationKind kind, const char* name, int peer = -1);
    Operation(const Operation&) = delete;
    ~Operation();

   private:
    Journal& journal_;
    int exceptions_;
  };

  static constexpr size_t kRing = 64;
  std::vector<JournalRecord> ring() const;  // oldest first
  std::optional<JournalRecord> newest() const;
  JournalGroup group(int index) const;
  int num_groups() const;
  // How many collectives of each group were begun, by index.
  std::vector<int64_t> counts() const;
  // Of kinds and names of the group's collectives so far, in order: a cheap test of equal order.
  uint64_t digest(int group) const;

  // For tests: from now on all records are kept. SUTOR_JOURNAL=<folder> does so from the start and
  // writes them to <folder>/rank-<r>.jsonl at the end of the job.
  void keep_all();
  std::vector<JournalRecord> all() const;
  void forget_all();  // and goes on keeping
  // One JSON object a line: name, group, ranks, ordinal, kind, peer, number.
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
  void begin(int group, OperationKind kind, const char* name, int peer);
  void end();
  JournalRecord& slot(int64_t index) { return ring_[static_cast<size_t>(index) % kRing]; }

  const int rank_;
  const FaultPlan faults_;
  mutable std::mutex mutex_;
  std::vector<GroupState> groups_;
  std::array<JournalRecord, kRing> ring_;
  int64_t total_ = 0;
  bool keep_all_ = false;
  std::vector<JournalRecord> all_;
};

}  // namespace sutor
