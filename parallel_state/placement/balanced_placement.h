// Chooses the expert-parallel rank of every routed expert from how much the router uses it and
// whether it trains: pure arithmetic, the same on every rank.
//
// A step is as slow as the rank whose experts have the most work. A frozen expert costs two matrix
// products a token (forward, input gradient), a trained one three (and the weight gradient). Every
// rank gets equally many experts and, as far as they go round, equally many trained ones, which
// evens memory as well.
#pragma once

#include <map>
#include <vector>

#include "parallel_state/placement/expert_placement.h"

namespace sutor {

// Of one MoE layer, by global expert id.
struct LayerLoad {
  std::vector<double> load;     // of the layer's token-expert pairs, in any unit
  std::vector<bool> trainable;  // [experts]

  int num_experts() const { return static_cast<int>(load.size()); }
  static double token_cost(bool trains) { return trains ? 3 : 2; }
  double cost(int expert) const { return token_cost(trainable[expert]) * load[expert]; }
};

// Layers of these loads in which nothing trains yet.
std::map<int, LayerLoad> frozen_layers(const std::map<int, std::vector<double>>& loads);

// Megatron's: rank r owns experts [r * n, (r + 1) * n).
LayerPlacement contiguous_layer(int num_experts, int ep);

// Costliest first onto the least loaded rank that has room, trained experts before frozen ones,
// then exchanges of two experts as long as they relieve the slowest rank. `replicas` of the most
// used frozen experts are replicated. With `groups` > 1 (group-limited routing: a token's experts
// lie in few groups of neighbouring ids) a group stays together: whole groups are placed when ep
// divides `groups`, experts move inside their group's ranks when `groups` divides ep.
// Throws E0210 when ep does not divide the experts, or when neither of ep and `groups` divides the
// other.
LayerPlacement balanced_layer(const LayerLoad& layer, int ep, int replicas = 0, int groups = 1);

// Replicates the `replicas` most used frozen experts.
void add_replicas(const LayerLoad& layer, int replicas, LayerPlacement& placement);

// [replicated][ep]: each rank's share of the tokens of the replicated experts, so that the ranks
// become level when the experts have this load [experts]; the shares of an expert add up to 1.
std::vector<std::vector<double>> replica_shares(const LayerPlacement& placement,
                                                const std::vector<double>& load, int ep);

// All layers, by global number. Ranks change places from layer to layer so that those with an odd
// trained expert more take turns: trained experts, and with them gradients and optimizer state, are
// even over the whole model.
std::map<int, LayerPlacement> balanced_layers(const std::map<int, LayerLoad>& layers, int ep,
                                              int replicas = 0, int groups = 1);

// [ep]: what each rank's experts cost, the replicated ones dealt out to the least loaded ranks
// until they are level.
std::vector<double> rank_costs(const LayerLoad& layer, const LayerPlacement& placement, int ep);

// How much longer the slowest rank works than with perfect balance, over all layers: the sum of the
// layers' highest costs over the sum of their means. Both maps have the same keys.
double critical_path(const std::map<int, LayerLoad>& layers,
                     const std::map<int, LayerPlacement>& placements, int ep);

}  // namespace sutor
