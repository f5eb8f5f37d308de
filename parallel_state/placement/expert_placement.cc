// The expert-parallel ranks and local numbers of routed experts.
#include "parallel_state/placement/expert_placement.h"

#include <algorithm>
#include <vector>

#include "csrc/base/error.h"

namespace sutor {

ExpertPlacement::ExpertPlacement(int num_experts, int ep, int ranks,
                                 const ExpertRanks& expert_ranks)
    : num_experts_(num_experts), ep_(ep) {
  if (ep < 1 || num_experts % ep != 0) {
    std::vector<int> divisors;
    for (int d = 1; d <= num_experts; ++d) {
      if (num_experts % d == 0 && (ranks == 0 || ranks % d == 0)) divisors.push_back(d);
    }
    fail(ErrorCode::kBadPlacement, "parallel.ep={} does not divide {} experts. {}: {}.", ep,
         num_experts,
         ranks == 0 ? "Divisors"
                    : fmt::format("Divisors that fit {} rank{}", ranks, ranks == 1 ? "" : "s"),
         fmt::join(divisors, ", "));
  }
  num_local_ = num_experts / ep;
  for (const auto& [layer, given] : expert_ranks) {
    const std::vector<int>& rank_of = given.rank_of;
    Permutation& layer_of = layers_[layer];
    layer_of.position_of.resize(rank_of.size());
    for (int rank = 0; rank < ep; ++rank) {
      for (size_t e = 0; e < rank_of.size(); ++e) {
        if (rank_of[e] != rank) continue;
        layer_of.position_of[e] = static_cast<int>(layer_of.expert_at.size());
        layer_of.expert_at.push_back(static_cast<int>(e));
      }
      if (static_cast<int>(layer_of.expert_at.size()) != (rank + 1) * num_local_) {
        fail(ErrorCode::kBadPlacement,
             "layer {}: a placement of experts must give each of {} ranks {} of {} experts.", layer,
             ep, num_local_, num_experts);
      }
    }
    layer_of.given = given;
    layer_of.copy_on.resize(static_cast<size_t>(ep));
    for (const int expert : given.replicated) {
      for (int rank = 0; rank < ep; ++rank) {
        std::map<int, int>& copies = layer_of.copy_on[rank];
        if (rank_of[expert] == rank) continue;
        copies.emplace(expert, num_local_ + static_cast<int>(copies.size()));
        max_copies_ = std::max(max_copies_, static_cast<int>(copies.size()));
      }
    }
  }
}

std::vector<int> ExpertPlacement::local_experts(int layer, int ep_rank) const {
  std::vector<int> experts;
  for (int local = 0; local < num_local_; ++local) {
    experts.push_back(global_id(layer, ep_rank, local));
  }
  const auto found = layers_.find(layer);
  if (found == layers_.end()) return experts;
  const std::map<int, int>& copies = found->second.copy_on[ep_rank];
  experts.resize(experts.size() + copies.size());
  for (const auto& [expert, local] : copies) experts[local] = expert;
  return experts;
}

const LayerPlacement* ExpertPlacement::with_replicas(int layer) const {
  const auto found = layers_.find(layer);
  if (found == layers_.end() || found->second.given.replicated.empty()) return nullptr;
  return &found->second.given;
}

bool ExpertPlacement::is_replicated(int layer, int expert) const {
  const LayerPlacement* placement = with_replicas(layer);
  return placement &&
         std::binary_search(placement->replicated.begin(), placement->replicated.end(), expert);
}

int ExpertPlacement::local_id_on(int layer, int expert, int ep_rank) const {
  if (ep_rank_of(layer, expert) == ep_rank) return local_id(layer, expert);
  return layers_.at(layer).copy_on[ep_rank].at(expert);
}

int ExpertPlacement::position(int layer, int expert) const {
  const auto found = layers_.find(layer);
  return found == layers_.end() ? expert : found->second.position_of[expert];
}

int ExpertPlacement::global_id(int layer, int ep_rank, int local_expert) const {
  const int position = ep_rank * num_local_ + local_expert;
  const auto found = layers_.find(layer);
  return found == layers_.end() ? position : found->second.expert_at[position];
}

namespace {

// The ranks over which the experts of one pipeline stage can be spread.
int ranks_of_stage(const ParallelOptions& options, int world_size) {
  const int64_t others = int64_t{options.pp} * options.etp;
  if (others < 1 || world_size < others) return 0;
  return static_cast<int>(world_size / others);
}

}  // namespace

ExpertPlacement::ExpertPlacement(int num_experts, const ParallelOptions& options, int world_size,
                                 const ExpertRanks& expert_ranks)
    : ExpertPlacement(num_experts, options.ep, ranks_of_stage(options, world_size), expert_ranks) {}

}  // namespace sutor
