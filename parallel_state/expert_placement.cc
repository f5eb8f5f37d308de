// Routed experts to expert-parallel ranks.
#include "parallel_state/expert_placement.h"

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
    fail(210, "parallel.ep={} does not divide {} experts. {}: {}.", ep, num_experts,
         ranks == 0 ? "Divisors" : fmt::format("Divisors that fit {} ranks", ranks),
         fmt::join(divisors, ", "));
  }
  num_local_ = num_experts / ep;
  for (const auto& [layer, rank_of] : expert_ranks) {
    Permutation& layer_of = layers_[layer];
    layer_of.place_of.resize(rank_of.size());
    for (int rank = 0; rank < ep; ++rank) {
      for (size_t e = 0; e < rank_of.size(); ++e) {
        if (rank_of[e] != rank) continue;
        layer_of.place_of[e] = static_cast<int>(layer_of.expert_at.size());
        layer_of.expert_at.push_back(static_cast<int>(e));
      }
      if (static_cast<int>(layer_of.expert_at.size()) != (rank + 1) * num_local_) {
        fail(210, "layer {}: a placement of experts must give each of {} ranks {} of {} experts.",
             layer, ep, num_local_, num_experts);
      }
    }
  }
}

int ExpertPlacement::place(int layer, int expert) const {
  const auto found = layers_.find(layer);
  return found == layers_.end() ? expert : found->second.place_of[expert];
}

int ExpertPlacement::global_id(int layer, int ep_rank, int local_expert) const {
  const int place = ep_rank * num_local_ + local_expert;
  const auto found = layers_.find(layer);
  return found == layers_.end() ? place : found->second.expert_at[place];
}

namespace {

// Ranks over which the experts of one pipeline stage can be spread.
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
