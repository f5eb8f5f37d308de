#include "parallel_state/model/tensor_map.h"

#include "csrc/base/error.h"

namespace sutor {

std::string_view name_of(TensorRole role) {
  switch (role) {
    case TensorRole::kEmbedding:
      return "embedding";
    case TensorRole::kHead:
      return "head";
    case TensorRole::kNorm:
      return "norm";
    case TensorRole::kAttention:
      return "attention";
    case TensorRole::kDenseMlp:
      return "dense mlp";
    case TensorRole::kRouter:
      return "router";
    case TensorRole::kCorrectionBias:
      return "correction bias";
    case TensorRole::kRoutedExpert:
      return "routed experts";
    case TensorRole::kSharedExpert:
      return "shared experts";
    case TensorRole::kLora:
      return "low-rank pairs";
  }
  return "?";
}

void TensorMap::add(TensorEntry entry) {
  if (entry.sources.empty()) entry.sources.push_back({.name = entry.name});
  const bool fresh = by_name_.emplace(entry.name, entries_.size()).second;
  SUTOR_ASSERT(fresh);
  entries_.push_back(std::move(entry));
}

const TensorEntry* TensorMap::find(std::string_view name) const {
  const auto it = by_name_.find(std::string(name));
  return it == by_name_.end() ? nullptr : &entries_[it->second];
}

}  // namespace sutor
