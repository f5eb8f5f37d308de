// Saving and resuming a training: what the ranks agree on around the files of checkpoint/.
#pragma once

#include <map>
#include <nlohmann/json.hpp>

#include "checkpoint/format/manifest.h"
#include "checkpoint/format/tile_index.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "csrc/comm/comm.h"
#include "launch/data/sample_order.h"
#include "launch/save/background_save.h"
#include "launch/train/train_plan.h"
#include "layers/optim/optimizer.h"
#include "layers/storage/parameter_store.h"

namespace sutor {

// Everything of a training but its tensors.
struct TrainState {
  int64_t step = 0;
  Cursor cursor;
  uint64_t seed = 0;
  std::string schedule;  // canonical text of the recipe keys that decide the training
  std::string data_digest;
  // Whether documents or pieces of them were left out of the samples, as they have no target.
  // Earlier programs left none out, so that their samples stand in another order where there are.
  bool leaves_out = false;
  nlohmann::json lora;      // {"rank", "alpha"} of a training of low-rank pairs, else null
  std::string best_metric;  // "task.loss"
  double best_value = 0;
  int64_t best_step = -1;
  // Of which checkpoint the training is a fork (fork.h); null: of none.
  nlohmann::json fork;
  // Steps that the optimizer's moments had before step 1: of the parent of a fork.
  int64_t optimizer_steps = 0;
  // Evaluations of the base (of a fork: of its parent), before any step: "task.loss" -> value.
  // Empty when there were none.
  std::map<std::string, double> base_values;
};

nlohmann::json to_json(const TrainState& state);
TrainState train_state_from(const nlohmann::json& json, const std::string& where);

class Checkpointer {
 public:
  // base: digest of the frozen model's weights; base_config: its computing_config().
  Checkpointer(std::filesystem::path root, Digest base, const TrainPlan& plan,
               ParameterStore& store, Optimizer& optimizer, nlohmann::json provenance,
               nlohmann::json base_config = nullptr);

  // Collective over the world. Every rank writes the rows that it steps; rank 0 publishes and says
  // so. When any rank fails, nothing is published and every rank throws: here, or, with
  // options.async, in the at_step() or finish() that follows. `last`: the state will not change.
  void save(const TrainState& state, const CheckpointOptions& options, bool last = false);
  // See BackgroundSave; collective, but for progress(). reserve(): before the first save, when
  // memory for copies shall be taken now.
  void reserve();
  int64_t progress() const { return saves_.progress(); }
  void at_step(int64_t most) { saves_.at_step(most); }
  void finish() { saves_.finish(); }
  // Called on rank 0 whenever a checkpoint has been published.
  void on_published(std::function<void()> published) { saves_.on_published(std::move(published)); }
  // Collective. Restores optimizer state and weights of the newest checkpoint that every rank reads
  // without finding damage, be it in the manifest or in the data; nothing is restored (false) when
  // the folder holds none. Prints what it passed over on rank 0. Throws what
  // newest_valid_checkpoint does, E0305, E0350 or E0380 when the checkpoint belongs to something
  // else, E0221, and E0220 when there is none but files of another program.
  bool resume(TrainState& state, bool strict);
  // Collective. Takes the weights of another training's checkpoint, which fits (fork.h), and its
  // moments where the optimizer is the same: then state.optimizer_steps are theirs. Notes in
  // state.fork which. Throws what the reader does, on all ranks.
  void begin_from(TrainState& state);
  // Collective. Points BEST at the checkpoint of this step, when it is published; removes BEST when
  // there is none (-1).
  void mark_best(int64_t step) { saves_.mark_best(step); }

 private:
  // The path of the checkpoint to resume; empty: there is none. Collective.
  std::string choose(bool strict, const DamagedSteps& damaged);
  // Fills what this rank holds of these parts.
  void read_parts(const CheckpointReader& reader, const std::vector<SaveJob::Part>& parts) const;
  // What this rank holds of the checkpoint; the state to go on from.
  TrainState read_from(const std::string& path, const TrainState& now);
  std::vector<IndexedTensor> wanted() const;
  std::vector<SaveJob::Part> parts() const;
  void check_belongs(const CheckpointReader& reader) const;

  std::filesystem::path root_;
  Digest base_;
  const TrainPlan& plan_;
  ParameterStore& store_;
  Optimizer& optimizer_;
  Comm& world_;
  nlohmann::json provenance_;
  nlohmann::json base_config_;
  int64_t resumed_from_ = -1;
  BackgroundSave saves_;
};

}  // namespace sutor
