// Routed experts to expert-parallel ranks.
#include "parallel_state/expert_placement.h"

#include <vector>

#include "csrc/base/error.h"

namespace sutor {

ExpertPlacement::ExpertPlacement(int num_experts, int ep, int ranks, const std::string& kind)
    : num_experts_(num_experts), ep_(ep) {
  if (kind == "balanced") {
    fail(204, "parallel.expert_placement: balanced is not available yet. Use contiguous.");
  }
  if (kind != "contiguous") {
    fail(210, "parallel.expert_placement is `{}`; known: contiguous.", kind);
  }
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
}

namespace {

// Ranks over which the experts of one pipeline stage can be spread.
int ranks_of_stage(const ParallelOptions& options, int world_size) {
  const int64_t others = int64_t{options.pp} * options.etp;
  if (others < 1 || world_size < others) return 0;
  return static_cast<int>(world_size / others);
}

}  // namespace

ExpertPlacement::ExpertPlacement(int num_experts, const ParallelOptions& options, int world_size)
    : ExpertPlacement(num_experts, options.ep, ranks_of_stage(options, world_size),
                      options.expert_placement) {}

}  // namespace sutor
