// Which expert-parallel rank holds which routed experts, and under which local number. The
// parameter generator, the loader, the dispatcher and the checkpoint all ask this class.
#pragma once

#include <string>

#include "parallel_state/parallel_options.h"

namespace sutor {

class ExpertPlacement {
 public:
  // kind "contiguous" (Megatron): rank r holds [r * n, (r + 1) * n) with n = num_experts / ep.
  // Throws E0210 when ep does not divide num_experts ("Divisors that fit N ranks" are the divisors
  // of num_experts that also divide `ranks`, the ranks of a pipeline stage over etp; 0 = unknown,
  // all divisors are named), E0204 for "balanced", E0210 for an unknown kind.
  ExpertPlacement(int num_experts, int ep, int ranks = 0, const std::string& kind = "contiguous");
  // Takes ep, etp, pp and the kind from the recipe. Call it before RankLayout: its message about ep
  // is the more helpful one.
  ExpertPlacement(int num_experts, const ParallelOptions& options, int world_size);

  int num_experts() const { return num_experts_; }
  int ep() const { return ep_; }
  int num_local_experts() const { return num_local_; }

  // `layer` is the global number; placements of different layers may differ.
  int ep_rank_of(int layer, int expert) const { return expert / num_local_; }
  int local_id(int layer, int expert) const { return expert % num_local_; }
  int global_id(int layer, int ep_rank, int local_expert) const {
    return ep_rank * num_local_ + local_expert;
  }

 private:
  int num_experts_;
  int ep_;
  int num_local_;
};

}  // namespace sutor
