// Saving and resuming a training: what the ranks agree on around the files of checkpoint/.
#pragma once

#include <nlohmann/json.hpp>

#include "checkpoint/format/manifest.h"
#include "checkpoint/format/tile_index.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "csrc/comm/comm.h"
#include "launch/data/sample_order.h"
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
  nlohmann::json lora;      // {"rank", "alpha"} of a training of low-rank pairs, else null
  std::string best_metric;  // "task.loss"
  double best_value = 0;
  int64_t best_step = -1;
};

nlohmann::json to_json(const TrainState& state);
TrainState train_state_from(const nlohmann::json& json, const std::string& where);

class Checkpointer {
 public:
  // base: digest of the frozen model's weights; base_config: its computing_config().
  Checkpointer(std::filesystem::path root, Digest base, const TrainPlan& plan,
               ParameterStore& store, Optimizer& optimizer, nlohmann::json provenance,
               nlohmann::json base_config = nullptr);

  // Collective over the world. Every rank writes the rows that it steps; rank 0 publishes. When any
  // rank fails, nothing is published and every rank throws.
  void save(const TrainState& state, int keep);
  // Collective. Restores optimizer state and weights of the newest complete checkpoint, or throws;
  // nothing is restored (false) when the folder holds none. Prints what it passed over on rank 0.
  bool resume(TrainState& state, bool strict);
  // Points BEST at this step. Rank 0 acts.
  void mark_best(int64_t step);

 private:
  std::vector<IndexedTensor> wanted() const;
  void check_belongs(const CheckpointReader& reader) const;

  std::filesystem::path root_;
  Digest base_;
  const TrainPlan& plan_;
  ParameterStore& store_;
  Optimizer& optimizer_;
  Comm& world_;
  nlohmann::json provenance_;
  nlohmann::json base_config_;
};

}  // namespace sutor
