// Rank-local names and the regular expressions over them.
#include "layers/esft/name_schemes.h"

#include <algorithm>
#include <unordered_map>

#include "csrc/base/error.h"
#include "layers/esft/megatron_names.h"
#include "parallel_state/placement/tensor_shard.h"

namespace sutor {
namespace {

constexpr std::string_view kSchemes[] = {"hf", "sutor", "megatron-te", "megatron-local"};
constexpr std::string_view kPlaceholders[] = {"{layer}",         "{local_layer}", "{expert}",
                                              "{global_expert}", "{proj}",        "{kind}"};

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

void check_pattern(const std::string& pattern) {
  for (size_t at = pattern.find_first_of("{}"); at != std::string::npos;
       at = pattern.find_first_of("{}", at + 1)) {
    const bool known = std::any_of(
        std::begin(kPlaceholders), std::end(kPlaceholders), [&](std::string_view placeholder) {
          return pattern.compare(at, placeholder.size(), placeholder) == 0;
        });
    if (!known) {
      fail(ErrorCode::kBadNamePattern,
           "the name pattern `{}` has an unknown placeholder at `{}`; known: {}.", pattern,
           pattern.substr(at), fmt::join(kPlaceholders, " "));
    }
    at = pattern.find('}', at);
  }
  if (!has(pattern, "{layer}") && !has(pattern, "{local_layer}")) {
    fail(ErrorCode::kBadNamePattern,
         "the name pattern `{}` lacks {{layer}} (or {{local_layer}}): the same name would stand "
         "for experts of several layers.",
         pattern);
  }
  if (!has(pattern, "{expert}") && !has(pattern, "{global_expert}")) {
    fail(ErrorCode::kBadNamePattern,
         "the name pattern `{}` lacks {{expert}} (or {{global_expert}}): the same name would "
         "stand for several experts.",
         pattern);
  }
}

std::string fill_pattern(std::string text, const TensorEntry& tensor,
                         const NameScheme::LocalIndex& index) {
  const auto replace = [&](std::string_view placeholder, const std::string& value) {
    for (size_t at = text.find(placeholder); at != std::string::npos;
         at = text.find(placeholder, at + value.size())) {
      text.replace(at, placeholder.size(), value);
    }
  };
  replace("{layer}", std::to_string(tensor.layer));
  replace("{local_layer}", std::to_string(index.local_layer));
  replace("{expert}", std::to_string(index.local_expert));
  replace("{global_expert}", std::to_string(tensor.expert));
  replace("{proj}_proj", tensor.projection + "_proj");
  replace("{proj}", tensor.projection + "_proj");
  replace("{kind}", std::string(tensor.kind()));
  return text;
}

std::string sutor_name(const TensorEntry& tensor, int local_expert) {
  if (tensor.role == TensorRole::kRoutedExpert) {
    return fmt::format("layers.{}.experts.{}.{}_proj.{}", tensor.layer, local_expert,
                       tensor.projection, tensor.kind());
  }
  constexpr std::string_view prefix = "model.";
  const bool strip = tensor.name.compare(0, prefix.size(), prefix) == 0;
  return strip ? tensor.name.substr(prefix.size()) : tensor.name;
}

}  // namespace

NameScheme::NameScheme(std::string scheme_or_pattern) : text_(std::move(scheme_or_pattern)) {
  is_pattern_ = text_.find_first_of("{}") != std::string::npos;
  if (is_pattern_) {
    check_pattern(text_);
    return;
  }
  if (std::find(std::begin(kSchemes), std::end(kSchemes), text_) == std::end(kSchemes)) {
    fail(ErrorCode::kBadNamePattern,
         "unknown name scheme `{}`; known: {}, or a pattern such as "
         "model.layers.{{layer}}.mlp.experts.{{expert}}.{{proj}}.weight.",
         text_, fmt::join(kSchemes, ", "));
  }
}

std::string NameScheme::local_name(const TensorEntry& tensor, const LocalIndex& index,
                                   const ModelInfo& model) const {
  if (is_pattern_) return fill_pattern(text_, tensor, index);
  if (text_ == "hf") return tensor.name;
  if (text_ == "sutor") return sutor_name(tensor, index.local_expert);
  return megatron_name(tensor, index.local_layer, index.local_expert, model,
                       text_ == "megatron-te");
}

namespace {

// Collects local names in order and, for names that stand for several tensors, how many train.
class NameList {
 public:
  void add(const std::string& name, const TensorEntry& tensor, bool trains) {
    const auto [it, fresh] = index_.emplace(name, items_.size());
    if (fresh) items_.push_back({name, {}, {}});
    (trains ? items_[it->second].trained : items_[it->second].frozen).push_back(&tensor);
  }

  RankNames result(const NameScheme& scheme) const {
    RankNames names;
    for (const Item& item : items_) {
      names.all.push_back(item.name);
      if (item.trained.empty()) continue;
      if (!item.frozen.empty()) {
        fail(ErrorCode::kNoNameInScheme,
             "in the scheme {} `{}` holds both {}, which trains, and {}, which is frozen. Train "
             "both or neither, or use another scheme.",
             scheme.text(), item.name, item.trained.front()->name, item.frozen.front()->name);
      }
      names.trainable.push_back(item.name);
    }
    return names;
  }

 private:
  struct Item {
    std::string name;
    std::vector<const TensorEntry*> trained, frozen;
  };
  std::vector<Item> items_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace

RankNames rank_names(const ModelInfo& model, const TrainableSet& plan, const NameScheme& scheme,
                     const RankLayout& layout, const StageMap& stages,
                     const ExpertPlacement& placement, int rank) {
  if (scheme.is_pattern() && !plan.only_routed_experts()) {
    fail(ErrorCode::kBadNamePattern,
         "the name pattern `{}` names routed experts only, but more trains (shared_experts, "
         "non_expert_modules or esft.also_train). Use one of the schemes {}.",
         scheme.text(), fmt::join(kSchemes, ", "));
  }
  const RankCoordinates at = layout.coordinates(rank);
  const bool megatron = scheme.text().rfind("megatron", 0) == 0;
  NameList list;
  for (const TensorEntry& tensor : model.tensors.entries()) {
    const bool routed = tensor.role == TensorRole::kRoutedExpert;
    if (scheme.is_pattern() && !routed) continue;
    const bool trains = plan.contains(tensor.name);
    if (!is_on_stage(tensor, model, stages, at.pp)) continue;
    if (tensor.layer < 0) {
      const bool tied_copy = tensor.role == TensorRole::kEmbedding && at.pp > 0;
      list.add(megatron && tied_copy ? "output_layer.weight" : scheme.local_name(tensor, {}, model),
               tensor, trains);
      continue;
    }
    NameScheme::LocalIndex index{.local_layer = stages.local_layer(tensor.layer)};
    if (routed) {
      if (placement.ep_rank_of(tensor.layer, tensor.expert) != at.ep) continue;
      index.local_expert = placement.local_id(tensor.layer, tensor.expert);
    }
    list.add(scheme.local_name(tensor, index, model), tensor, trains);
  }
  return list.result(scheme);
}

}  // namespace sutor
