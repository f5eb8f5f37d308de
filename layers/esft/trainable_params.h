// The trainable parameters: a list of global names computed from the expert config and the model's
// name table alone, so that it is the same on every rank. Training and `sutor params` share it.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "parallel_state/model/expert_config.h"
#include "parallel_state/model/model_info.h"

namespace sutor {

class TrainableSet {
 public:
  // Nothing trains.
  TrainableSet() = default;
  // `names` in the order of the model's tensor map.
  TrainableSet(const ModelInfo& model, std::vector<std::string> names);

  const std::vector<std::string>& names() const { return names_; }
  bool contains(std::string_view name) const { return lookup_.count(std::string(name)) > 0; }
  // Trainable routed experts: global layer -> ids in rising order. Layers without any are absent.
  const std::map<int, std::vector<int>>& experts() const { return experts_; }
  bool only_routed_experts() const { return only_routed_experts_; }
  int64_t num_parameters() const { return num_parameters_; }  // elements, not tensors
  // Backward has to go down to this global layer: -1 when the embedding trains, num_layers when
  // only the final norm or the head does; beyond every layer when nothing trains.
  int lowest_layer() const { return lowest_layer_; }

 private:
  std::vector<std::string> names_;
  std::unordered_set<std::string> lookup_;
  std::map<int, std::vector<int>> experts_;
  bool only_routed_experts_ = true;
  int64_t num_parameters_ = 0;
  int lowest_layer_ = std::numeric_limits<int>::max();
};

// Changes to what the expert config names: regular expressions (ECMAScript) that must match a whole
// global name. Each must match a tensor of the model, else E0316.
struct TrainablePatterns {
  std::vector<std::string> also_train = {};
  std::vector<std::string> keep_frozen = {};  // wins over also_train and over the config's flags
};

// The routed experts of `config` with all their projections; with `shared_experts` the shared
// experts of every layer; with `non_expert_modules` everything that is neither (router, norms,
// embedding, head, attention, dense layers). `config` must have passed check_expert_config. Throws
// E0315 when nothing is left to train, E0316 for a pattern that is no regular expression or matches
// nothing, E0317 when patterns would train an expert only in part or freeze one that the config
// names.
TrainableSet trainable_set(const ModelInfo& model, const ExpertConfig& config,
                           const TrainablePatterns& patterns = {});

// train.method full: every parameter but those of keep_frozen.
TrainableSet full_trainable_set(const ModelInfo& model, const TrainablePatterns& patterns = {});

}  // namespace sutor
