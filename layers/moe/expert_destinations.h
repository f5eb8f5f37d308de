// Which rank of ep works on each choice of an expert: the expert's owner, or where the expert is
// replicated any rank, such that the ranks have equal work.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel_state/placement/expert_placement.h"

namespace sutor {

// [experts]: how often each is chosen.
std::vector<int64_t> choices_by_expert(std::span<const int64_t> experts, int num_experts);

// The destinations of the choices of one rank.
class ExpertDestinations {
 public:
  // `own` [experts]: this rank's choices. `all` [experts]: those of all ranks among which
  // replicated experts are shared out, the same on each of them; read only where the layer has
  // replicas.
  ExpertDestinations(const ExpertPlacement& placement, int layer, const std::vector<int64_t>& own,
                     const std::vector<int64_t>& all);

  // [experts]: where the choices of each expert go in a layer without replicas.
  static std::vector<int64_t> owners(const ExpertPlacement& placement, int layer);

  // Where the next choice of this expert goes: rank of ep * local_numbers() + local number there.
  int64_t take(int expert);

 private:
  struct Run {
    int64_t destination, left;
  };
  std::vector<std::vector<Run>> runs_;  // [experts], the next one last
};

}  // namespace sutor
