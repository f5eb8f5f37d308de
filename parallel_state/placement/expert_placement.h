// Which expert-parallel rank has which routed experts, and under which local number. The parameter
// generator, the loader, the dispatcher and the checkpoint all ask this class.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "parallel_state/layout/parallel_options.h"

namespace sutor {

// The ranks of the routed experts of a layer.
struct LayerPlacement {
  std::vector<int> rank_of;  // [experts]: the ep rank that owns the expert; each owns equally many
  // Replicated frozen experts, in rising order. Copies need no synchronisation, and any rank can
  // take any of their tokens: they fill up the ranks that have less work.
  std::vector<int> replicated = {};
  std::vector<double> token_cost = {};  // [experts]: in any unit; set when experts are replicated
};
using ExpertRanks = std::map<int, LayerPlacement>;  // by global layer

class ExpertPlacement {
 public:
  // Layers in `expert_ranks` (balanced_placement.h makes them) are placed as given, with local
  // numbers rising with the global ones; the others are contiguous as in Megatron: rank r owns
  // [r * n, (r + 1) * n) with n = num_experts / ep. Throws E0210 when ep does not divide
  // num_experts ("Divisors that fit N ranks" are the divisors of num_experts that also divide
  // `ranks`, the ranks of a pipeline stage over etp; 0 = unknown, all divisors are named), and when
  // a rank would get more or fewer experts than the others.
  ExpertPlacement(int num_experts, int ep, int ranks = 0, const ExpertRanks& expert_ranks = {});
  // Takes ep, etp and pp from the recipe. Call it before RankLayout, whose message about ep is less
  // helpful.
  ExpertPlacement(int num_experts, const ParallelOptions& options, int world_size,
                  const ExpertRanks& expert_ranks = {});

  int num_experts() const { return num_experts_; }
  int ep() const { return ep_; }
  int num_local_experts() const { return num_local_; }

  // `layer` is the global number; placements of different layers may differ.
  int ep_rank_of(int layer, int expert) const { return position(layer, expert) / num_local_; }
  int local_id(int layer, int expert) const { return position(layer, expert) % num_local_; }
  int global_id(int layer, int ep_rank, int local_expert) const;

  // The experts that a rank has of a layer, by local number: first those that it owns, then, from
  // num_local_experts() on, its copies of other ranks' replicated experts.
  std::vector<int> local_experts(int layer, int ep_rank) const;
  // An upper bound (exclusive) of the local numbers of all ranks and layers.
  int local_numbers() const { return num_local_ + max_copies_; }
  // The layer's placement when it has replicated experts, else null.
  const LayerPlacement* with_replicas(int layer) const;
  bool is_replicated(int layer, int expert) const;
  // The local number on a rank that owns the expert or has a copy.
  int local_id_on(int layer, int expert, int ep_rank) const;

 private:
  // A layer's experts in the order of their ranks, within a rank by local number.
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
