// The plan of what trains, from the expert config and the name table.
#include "layers/esft/trainable_params.h"

#include <algorithm>
#include <set>

#include "csrc/base/error.h"
#include "csrc/base/text/name_pattern.h"

namespace sutor {
namespace {

// Which tensors of the model a list of patterns matches, by position in the tensor map. Tensors
// that cannot train never match.
std::vector<bool> match_any(const ModelInfo& model, const std::vector<std::string>& patterns,
                            const char* key) {
  const std::vector<TensorEntry>& tensors = model.tensors.entries();
  std::vector<bool> matched(tensors.size(), false);
  for (const std::string& pattern : patterns) {
    NamePattern name(pattern);
    bool any = false;
    for (size_t i = 0; i < tensors.size() && name.problem().empty(); ++i) {
      if (!can_train(tensors[i].role) || !name.matches(tensors[i].name)) continue;
      matched[i] = true;
      any = true;
    }
    if (!name.problem().empty()) {
      fail(ErrorCode::kBadPattern, "{}: `{}` is no regular expression that can be used: {}.", key,
           pattern, name.problem());
    }
    if (!any) {
      fail(ErrorCode::kBadPattern,
           "{}: the pattern `{}` matches no parameter of the model that can train. It must match a "
           "whole name, such as {}.",
           key, pattern, tensors.empty() ? "-" : tensors.back().name);
    }
  }
  return matched;
}

bool configured(const TensorEntry& tensor, const ExpertConfig& config) {
  if (!can_train(tensor.role)) return false;
  if (tensor.role == TensorRole::kSharedExpert) return config.shared_experts;
  if (tensor.role != TensorRole::kRoutedExpert) return config.non_expert_modules;
  const auto it = config.experts.find(tensor.layer);
  return it != config.experts.end() &&
         std::count(it->second.begin(), it->second.end(), tensor.expert) > 0;
}

// Storage keeps the matrices of an expert together, so that all of them train or none does.
void check_whole_experts(const ModelInfo& model, const std::vector<bool>& trains,
                         const std::vector<bool>& wanted) {
  struct Expert {
    int tensors = 0, trained = 0, wanted = 0;
  };
  std::map<std::pair<int, int>, Expert> experts;
  const std::vector<TensorEntry>& tensors = model.tensors.entries();
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].role != TensorRole::kRoutedExpert) continue;
    Expert& expert = experts[{tensors[i].layer, tensors[i].expert}];
    expert.tensors += 1;
    expert.trained += trains[i];
    expert.wanted += wanted[i];
  }
  for (const auto& [key, expert] : experts) {
    if (expert.trained > 0 && expert.trained < expert.tensors) {
      fail(ErrorCode::kDividedExpert,
           "layer {}, expert {}: the patterns train {} of its {} tensors. A routed expert trains "
           "whole or not at all: let esft.also_train or esft.keep_frozen match all of them.",
           key.first, key.second, expert.trained, expert.tensors);
    }
    if (expert.wanted > expert.trained) {
      fail(ErrorCode::kDividedExpert,
           "layer {}, expert {}: the expert config trains it, but esft.keep_frozen matches it. "
           "Remove it from one of them.",
           key.first, key.second);
    }
  }
}

TrainableSet build(const ModelInfo& model, const std::vector<bool>& trains) {
  std::vector<std::string> names;
  const std::vector<TensorEntry>& tensors = model.tensors.entries();
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (trains[i]) names.push_back(tensors[i].name);
  }
  if (names.empty()) {
    fail(ErrorCode::kNothingTrains,
         "nothing is left to train: no expert is configured, or esft.keep_frozen matches "
         "everything that is.");
  }
  return TrainableSet(model, std::move(names));
}

}  // namespace

TrainableSet::TrainableSet(const ModelInfo& model, std::vector<std::string> names)
    : names_(std::move(names)),
      lookup_(names_.begin(), names_.end()),
      lowest_layer_(model.num_layers) {
  std::map<int, std::set<int>> experts;
  for (const std::string& name : names_) {
    const TensorEntry* tensor = model.tensors.find(name);
    SUTOR_ASSERT(tensor != nullptr);
    int64_t elements = 1;
    for (int64_t size : tensor->shape) elements *= size;
    num_parameters_ += elements;
    if (tensor->role == TensorRole::kRoutedExpert) {
      experts[tensor->layer].insert(tensor->expert);
    } else {
      only_routed_experts_ = false;
    }
    const bool at_end = tensor->layer < 0 && tensor->role != TensorRole::kEmbedding;
    if (!at_end) lowest_layer_ = std::min(lowest_layer_, tensor->layer);
  }
  for (const auto& [layer, ids] : experts) experts_[layer].assign(ids.begin(), ids.end());
}

TrainableSet trainable_set(const ModelInfo& model, const ExpertConfig& config,
                           const TrainablePatterns& patterns) {
  const std::vector<bool> also = match_any(model, patterns.also_train, "esft.also_train");
  const std::vector<bool> frozen = match_any(model, patterns.keep_frozen, "esft.keep_frozen");
  const std::vector<TensorEntry>& tensors = model.tensors.entries();
  std::vector<bool> trains(tensors.size()), wanted(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    wanted[i] = configured(tensors[i], config);
    trains[i] = (wanted[i] || also[i]) && !frozen[i];
  }
  check_whole_experts(model, trains, wanted);
  return build(model, trains);
}

TrainableSet full_trainable_set(const ModelInfo& model, const TrainablePatterns& patterns) {
  std::vector<bool> trains = match_any(model, patterns.keep_frozen, "esft.keep_frozen");
  trains.flip();
  for (size_t i = 0; i < trains.size(); ++i) {
    trains[i] = trains[i] && can_train(model.tensors.entries()[i].role);
  }
  check_whole_experts(model, trains, std::vector<bool>(trains.size(), false));
  return build(model, trains);
}

}  // namespace sutor
