// Saves beside the training. The state is copied at a step's boundary; then a thread of each rank
// writes its file, and when all have, a thread of rank 0 publishes. The main threads learn at every
// step how far that is, agree, and throw a save's error together. One save is in flight at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/format/manifest.h"
#include "checkpoint/format/tile_index.h"
#include "checkpoint/partial/checkpoint_options.h"
#include "checkpoint/partial/partial_checkpoint.h"
#include "checkpoint/partial/snapshot.h"
#include "csrc/comm/comm.h"
#include "launch/save/background_task.h"
#include "layers/shards/shard_values.h"

namespace sutor {

// One save, as each rank sees it.
struct SaveJob {
  struct Part {
    std::string kind;
    ShardValues rows;  // of this rank
  };

  CheckpointMeta meta{};
  std::vector<IndexedTensor> wanted{};  // every trained tensor
  std::vector<Part> parts{};
  CheckpointOptions options{};
  std::set<int64_t> protect{};  // steps that retention leaves alone, beside options.pin
  bool last = false;            // nothing changes the state any more
};

class BackgroundSave {
 public:
  BackgroundSave(std::filesystem::path root, Comm& world);
  // Waits for the threads; an unpublished save is given up.
  ~BackgroundSave();

  // Collective. Reserves memory for copies of the parts, or says on rank 0 why saves will stop the
  // training instead: some rank's machine has too little of it.
  void reserve(const std::vector<SaveJob::Part>& parts);
  // Collective. Waits for the save in flight, then starts this one; returns when the state may
  // change. Without options.async, without memory, or when it is the last one, it is published when
  // this returns. Throws what went wrong on any rank, on all ranks; then nothing of the save stays.
  void start(SaveJob job);

  // What this rank has to say to the others: 0 nothing, 1 its thread works, 2 its thread failed.
  int64_t progress() const;
  // Collective, with the largest progress() of all ranks: goes on with the save in flight, or
  // throws its error on all ranks. Waits only for threads that are done.
  void at_step(int64_t most);
  // Collective. Waits until no save is in flight; throws as at_step().
  void finish();

  // Collective, right after start(): once this save is published, BEST names it. A step that is not
  // in flight is published, or has no checkpoint: then BEST is removed.
  void mark_best(int64_t step);
  // Called on rank 0 whenever a checkpoint has been published.
  void on_published(std::function<void()> published) { published_ = std::move(published); }

 private:
  struct InFlight {
    SaveJob job{};
    std::string uuid{};
    std::chrono::steady_clock::time_point begin{};
    bool publishing = false, best = false;
  };

  bool is_root() const { return world_.rank() == 0; }
  int64_t step() const { return save_->job.meta.step; }
  void await_former();
  void begin_staging();
  void write_directly();
  void write_in_background();
  void gather_and_publish();
  void end();
  std::string publish(const std::vector<std::string>& records) const;
  // Throws on all ranks when a thread had a problem; nothing of the save stays.
  std::string result_of_all(const char* what);

  std::filesystem::path root_;
  Comm& world_;
  SnapshotMemory memory_;
  std::optional<bool> enough_memory_;  // the same on all ranks
  std::function<void()> published_;
  std::optional<InFlight> save_;
  BackgroundTask task_;  // last: its thread uses the others
};

}  // namespace sutor
