// Chooses the expert-parallel rank of every routed expert by how much the router uses it and
// whether it trains: pure arithmetic, the same on every rank.
//
// A step is as slow as the rank whose experts have the most work. A frozen expert costs two matrix
// products per token (forward, input gradient), a trainable one three (weight gradient as well).
// Every rank gets equally many experts and, as far as possible, equally many trainable ones, which
// balances memory too.
#pragma once

#include <map>
#include <vector>

#include "parallel_state/placement/expert_placement.h"

namespace sutor {

// The load of one MoE layer, by global expert id.
struct LayerLoad {
  std::vector<double> load;     // token-expert pairs of each expert, in any unit
  std::vector<bool> trainable;  // [experts]

  int num_experts() const { return static_cast<int>(load.size()); }
  static double token_cost(bool trains) { return trains ? 3 : 2; }
  double cost(int expert) const { return token_cost(trainable[expert]) * load[expert]; }
};

// Layers of these loads in which nothing trains yet.
std::map<int, LayerLoad> frozen_layers(const std::map<int, std::vector<double>>& loads);

// Megatron's placement: rank r owns experts [r * n, (r + 1) * n).
LayerPlacement contiguous_layer(int num_experts, int ep);

// Greedy assignment: costliest expert first to the least loaded rank that has room, trainable
// experts before frozen ones; then exchanges of two experts as long as they relieve the slowest
// rank. The `replicas` most used frozen experts are replicated. With `groups` > 1 (group-limited
// routing: a token's experts are in few groups of neighbouring ids) a group stays together: whole
// groups are assigned when ep divides `groups`, and experts stay on their group's ranks when
// `groups` divides ep.
// Throws E0210 when ep does not divide the experts, or when neither of ep and `groups` divides the
// other.
LayerPlacement balanced_layer(const LayerLoad& layer, int ep, int replicas = 0, int groups = 1);

// Adds the `replicas` most used frozen experts to placement.replicated.
void add_replicas(const LayerLoad& layer, int replicas, LayerPlacement& placement);

// [replicated][ep]: the fraction of the tokens of each replicated expert that each rank takes, so
// that the ranks are balanced when the experts have this load [experts]; the fractions of an expert
// add up to 1.
std::vector<std::vector<double>> replica_shares(const LayerPlacement& placement,
                                                const std::vector<double>& load, int ep);

// All layers, by global number. Ranks are permuted from layer to layer so that those with one
// trainable expert more take turns: trainable experts, and with them gradients and optimizer state,
// are balanced over the whole model.
std::map<int, LayerPlacement> balanced_layers(const std::map<int, LayerLoad>& layers, int ep,
                                              int replicas = 0, int groups = 1);

// [ep]: the cost of each rank's experts, with the tokens of replicated ones assigned to the least
// loaded ranks until all are level.
std::vector<double> rank_costs(const LayerLoad& layer, const LayerPlacement& placement, int ep);

// How much longer the slowest rank works than under perfect balance, over all layers: the sum of
// the layers' highest costs over the sum of their mean costs. Both maps have the same keys.
double critical_path(const std::map<int, LayerLoad>& layers,
                     const std::map<int, LayerPlacement>& placements, int ep);

}  // namespace sutor
