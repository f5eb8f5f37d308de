// Which expert-parallel rank holds which routed experts, and under which local number. The
// parameter generator, the loader, the dispatcher and the checkpoint all ask this class.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "parallel_state/layout/parallel_options.h"

namespace sutor {

// Where the routed experts of a layer are.
struct LayerPlacement {
  std::vector<int> rank_of;  // [experts]: the ep rank that owns the expert; equally many a rank
  // Frozen experts that every rank has as well, rising. Copies need no synchronisation, and any
  // rank can take any of their tokens: they fill up the ranks that have less to do.
  std::vector<int> replicated = {};
  std::vector<double> token_cost = {};  // [experts]: of a token, in any unit; with replicated ones
};
using ExpertRanks = std::map<int, LayerPlacement>;  // by global layer

class ExpertPlacement {
 public:
  // Layers of `expert_ranks` as they say (balanced_placement.h makes such), local numbers rising
  // with the global ones; the others contiguous, as Megatron: rank r holds [r * n, (r + 1) * n)
  // with n = num_experts / ep. Throws E0210 when ep does not divide num_experts ("Divisors that fit
  // N ranks" are the divisors of num_experts that also divide `ranks`, the ranks of a pipeline
  // stage over etp; 0 = unknown, all divisors are named), and when a rank would get more or fewer
  // experts than the others.
  ExpertPlacement(int num_experts, int ep, int ranks = 0, const ExpertRanks& expert_ranks = {});
  // Takes ep, etp and pp from the recipe. Call it before RankLayout: its message about ep is the
  // more helpful one.
  ExpertPlacement(int num_experts, const ParallelOptions& options, int world_size,
                  const ExpertRanks& expert_ranks = {});

  int num_experts() const { return num_experts_; }
  int ep() const { return ep_; }
  int num_local_experts() const { return num_local_; }

  // `layer` is the global number; placements of different layers may differ.
  int ep_rank_of(int layer, int expert) const { return position(layer, expert) / num_local_; }
  int local_id(int layer, int expert) const { return position(layer, expert) % num_local_; }
  int global_id(int layer, int ep_rank, int local_expert) const;

  // Local numbers from num_local_experts() on are copies of others' experts: what a rank has of a
  // layer, by local number, owned ones first.
  std::vector<int> local_experts(int layer, int ep_rank) const;
  // More than any local number of any rank and layer.
  int local_numbers() const { return num_local_ + max_copies_; }
  // The layer's placement when it has replicated experts, else null.
  const LayerPlacement* with_replicas(int layer) const;
  bool is_replicated(int layer, int expert) const;
  // On a rank that has the expert.
  int local_id_on(int layer, int expert, int ep_rank) const;

 private:
  // A layer's experts in the order of their ranks, and there of their local numbers.
  struct Permutation {
    std::vector<int> position_of;  // [experts]
    std::vector<int> expert_at;    // [experts]
    LayerPlacement given;
    std::vector<std::map<int, int>> copy_on;  // [ep]: expert -> local number of the copy
  };
  int position(int layer, int expert) const;

  int num_experts_;
  int ep_;
  int num_local_;
  int max_copies_ = 0;
  std::map<int, Permutation> layers_;
};

}  // namespace sutor
