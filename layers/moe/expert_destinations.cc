#include "layers/moe/expert_destinations.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "parallel_state/placement/balanced_placement.h"

namespace sutor {

std::vector<int64_t> choices_by_expert(std::span<const int64_t> experts, int num_experts) {
  std::vector<int64_t> counts(static_cast<size_t>(num_experts), 0);
  for (const int64_t expert : experts) ++counts[expert];
  return counts;
}

namespace {

int64_t place_on(const ExpertPlacement& placement, int layer, int expert, int rank) {
  return int64_t{rank} * placement.local_numbers() + placement.local_id_on(layer, expert, rank);
}

}  // namespace

std::vector<int64_t> ExpertDestinations::owners(const ExpertPlacement& placement, int layer) {
  std::vector<int64_t> places;
  for (int e = 0; e < placement.num_experts(); ++e) {
    places.push_back(place_on(placement, layer, e, placement.ep_rank_of(layer, e)));
  }
  return places;
}

ExpertDestinations::ExpertDestinations(const ExpertPlacement& placement, int layer,
                                       const std::vector<int64_t>& own,
                                       const std::vector<int64_t>& all) {
  const auto on_rank = [&](int expert, int rank) {
    return place_on(placement, layer, expert, rank);
  };
  const std::vector<int64_t> owner = owners(placement, layer);
  for (int e = 0; e < placement.num_experts(); ++e) runs_.push_back({{owner[e], own[e]}});
  const LayerPlacement* replicas = placement.with_replicas(layer);
  if (replicas == nullptr) return;
  const std::vector<std::vector<double>> shares =
      replica_shares(*replicas, std::vector<double>(all.begin(), all.end()), placement.ep());
  for (size_t i = 0; i < shares.size(); ++i) {
    const int expert = replicas->replicated[i];
    std::vector<Run>& runs = runs_[expert];
    runs.clear();
    double share = 0;
    int64_t given = 0;
    for (int rank = 0; rank < placement.ep(); ++rank) {
      share += shares[i][rank];
      const bool last = rank + 1 == placement.ep();
      const int64_t until =
          last ? own[expert]
               : std::min<int64_t>(own[expert],
                                   std::llround(share * static_cast<double>(own[expert])));
      if (until > given) runs.push_back({on_rank(expert, rank), until - given});
      given = std::max(given, until);
    }
  }
}

int64_t ExpertDestinations::take(int expert) {
  std::vector<Run>& runs = runs_[expert];
  while (runs.back().left == 0) runs.pop_back();
  --runs.back().left;
  return runs.back().destination;
}

}  // namespace sutor
