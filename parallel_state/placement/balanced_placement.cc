#include "parallel_state/placement/balanced_placement.h"

#include <algorithm>
#include <numeric>

#include "csrc/base/error.h"

namespace sutor {
namespace {

class GreedyAssignment {
 public:
  GreedyAssignment(int ranks, int items, std::vector<double> costs)
      : cost_(static_cast<size_t>(ranks), 0),
        rank_of_(static_cast<size_t>(items), -1),
        item_cost_(std::move(costs)) {}

  // Equally many of `ids` to each rank, up to one; costliest first to the least loaded one. Ranks
  // that got fewer in an earlier call come first, so that totals stay equal.
  void assign(std::vector<int> ids) {
    std::stable_sort(ids.begin(), ids.end(),
                     [&](int a, int b) { return item_cost_[a] > item_cost_[b]; });
    const int ranks = static_cast<int>(cost_.size());
    const int total = static_cast<int>(ids.size() + assigned_);
    std::vector<int> room(cost_.size());
    for (int r = 0; r < ranks; ++r) room[r] = (total + ranks - 1) / ranks - count(r);
    // Ranks that may hold the rounded-up number: as many as the remainder asks for.
    int extra = total % ranks == 0 ? ranks : total % ranks;
    for (int r = 0; r < ranks; ++r) extra -= room[r] == 0;
    for (const int id : ids) {
      int best = -1;
      for (int r = 0; r < ranks; ++r) {
        if (room[r] == 0 || (room[r] == 1 && extra == 0)) continue;
        if (best < 0 || cost_[r] < cost_[best]) best = r;
      }
      if (--room[best] == 0) --extra;
      give(id, best);
    }
    assigned_ += ids.size();
    kinds_.push_back(std::move(ids));
  }

  // Exchanges items of one kind between the slowest rank and others while that lowers the higher of
  // the two costs.
  void exchange() {
    while (true) {
      const int slow =
          static_cast<int>(std::max_element(cost_.begin(), cost_.end()) - cost_.begin());
      double best = 0;
      std::pair<int, int> swap;
      for (const std::vector<int>& kind : kinds_) {
        for (const int a : kind) {
          if (rank_of_[a] != slow) continue;
          for (const int b : kind) {
            if (rank_of_[b] == slow) continue;
            const double moved = item_cost_[a] - item_cost_[b];
            const double other = cost_[rank_of_[b]];
            const double relief = cost_[slow] - std::max(cost_[slow] - moved, other + moved);
            if (relief > best + 1e-12 * cost_[slow]) {
              best = relief;
              swap = {a, b};
            }
          }
        }
      }
      if (best <= 0) return;
      const auto [a, b] = swap;
      const int to = rank_of_[b];
      give(b, slow);
      give(a, to);
    }
  }

  int rank_of(int item) const { return rank_of_[item]; }

 private:
  int count(int rank) const {
    return static_cast<int>(std::count(rank_of_.begin(), rank_of_.end(), rank));
  }
  void give(int id, int rank) {
    if (rank_of_[id] >= 0) cost_[rank_of_[id]] -= item_cost_[id];
    cost_[rank] += item_cost_[id];
    rank_of_[id] = rank;
  }

  std::vector<double> cost_;  // by rank
  std::vector<int> rank_of_;  // by item
  std::vector<double> item_cost_;
  std::vector<std::vector<int>> kinds_;
  size_t assigned_ = 0;
};

std::vector<int> hottest_frozen(const LayerLoad& layer, int count) {
  std::vector<int> ids;
  for (int e = 0; e < layer.num_experts(); ++e) {
    if (!layer.trainable[e]) ids.push_back(e);
  }
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int a, int b) { return layer.load[a] > layer.load[b]; });
  ids.resize(std::min(ids.size(), static_cast<size_t>(count)));
  std::sort(ids.begin(), ids.end());
  return ids;
}

// Experts [begin, end) over ranks [first_rank, first_rank + ranks).
void assign_experts(const LayerLoad& layer, const std::vector<double>& costs, int begin, int end,
                    int first_rank, int ranks, LayerPlacement& placement) {
  GreedyAssignment assignment(ranks, layer.num_experts(), costs);
  for (const bool trainable : {true, false}) {
    std::vector<int> ids;
    for (int e = begin; e < end; ++e) {
      if (layer.trainable[e] == trainable) ids.push_back(e);
    }
    assignment.assign(std::move(ids));
  }
  assignment.exchange();
  for (int e = begin; e < end; ++e) placement.rank_of[e] = first_rank + assignment.rank_of(e);
}

void assign_groups(const LayerLoad& layer, const std::vector<double>& costs, int groups, int ep,
                   LayerPlacement& placement) {
  const int size = layer.num_experts() / groups;
  std::vector<double> group_costs(static_cast<size_t>(groups), 0);
  for (int e = 0; e < layer.num_experts(); ++e) group_costs[e / size] += costs[e];
  std::vector<int> ids(static_cast<size_t>(groups));
  std::iota(ids.begin(), ids.end(), 0);
  GreedyAssignment assignment(ep, groups, group_costs);
  assignment.assign(std::move(ids));
  assignment.exchange();
  for (int e = 0; e < layer.num_experts(); ++e) placement.rank_of[e] = assignment.rank_of(e / size);
}

// Adds `amount` to the lowest of `costs`, so that those that get any end at one level.
void fill_up(std::vector<double>& costs, double amount) {
  std::vector<double> sorted = costs;
  std::sort(sorted.begin(), sorted.end());
  double level = sorted.front();
  for (size_t filled = 1; amount > 0; ++filled) {
    const double room =
        filled < sorted.size() ? (sorted[filled] - level) * static_cast<double>(filled) : amount;
    const double poured = std::min(room, amount);
    level += poured / static_cast<double>(filled);
    amount -= poured;
    if (filled == sorted.size()) break;
  }
  for (double& cost : costs) cost = std::max(cost, level);
}

}  // namespace

namespace {

// [ep]: what the experts cost that are on one rank alone; `cost` by expert.
std::vector<double> owned_costs(const LayerPlacement& placement, const std::vector<double>& cost,
                                int ep) {
  std::vector<double> costs(static_cast<size_t>(ep), 0);
  for (size_t e = 0; e < cost.size(); ++e) {
    const auto& replicated = placement.replicated;
    if (std::binary_search(replicated.begin(), replicated.end(), static_cast<int>(e))) continue;
    costs[placement.rank_of[e]] += cost[e];
  }
  return costs;
}

// The costs of all ranks when the replicated experts fill up those that have least.
std::vector<double> level_costs(const LayerPlacement& placement, const std::vector<double>& cost,
                                int ep) {
  std::vector<double> costs = owned_costs(placement, cost, ep);
  double movable = 0;
  for (const int e : placement.replicated) movable += cost[e];
  fill_up(costs, movable);
  return costs;
}

std::vector<double> costs_of(const LayerLoad& layer) {
  std::vector<double> costs;
  for (int e = 0; e < layer.num_experts(); ++e) costs.push_back(layer.cost(e));
  return costs;
}

}  // namespace

std::map<int, LayerLoad> frozen_layers(const std::map<int, std::vector<double>>& loads) {
  std::map<int, LayerLoad> layers;
  for (const auto& [number, load] : loads) {
    layers[number] = {load, std::vector<bool>(load.size(), false)};
  }
  return layers;
}

LayerPlacement contiguous_layer(int num_experts, int ep) {
  LayerPlacement placement;
  for (int e = 0; e < num_experts; ++e) placement.rank_of.push_back(e / (num_experts / ep));
  return placement;
}

LayerPlacement balanced_layer(const LayerLoad& layer, int ep, int replicas, int groups) {
  const int experts = layer.num_experts();
  if (ep < 1 || experts % ep != 0) {
    fail(ErrorCode::kBadPlacement, "parallel.ep={} does not divide {} experts.", ep, experts);
  }
  if (groups < 1 || experts % groups != 0 || (groups % ep != 0 && ep % groups != 0)) {
    fail(ErrorCode::kBadPlacement,
         "a balanced placement keeps the {} groups of the router together, but {} ranks do not "
         "divide them, nor they the ranks. Choose another parallel.ep, or contiguous.",
         groups, ep);
  }
  LayerPlacement placement;
  placement.rank_of.assign(static_cast<size_t>(experts), 0);
  add_replicas(layer, replicas, placement);
  std::vector<double> costs = costs_of(layer);
  for (const int e : placement.replicated) costs[e] = 0;  // the same for all ranks
  if (groups > 1 && groups % ep == 0) {
    assign_groups(layer, costs, groups, ep, placement);
    return placement;
  }
  const int ranks = ep / groups, size = experts / groups;
  for (int g = 0; g < groups; ++g) {
    assign_experts(layer, costs, g * size, (g + 1) * size, g * ranks, ranks, placement);
  }
  return placement;
}

std::map<int, LayerPlacement> balanced_layers(const std::map<int, LayerLoad>& layers, int ep,
                                              int replicas, int groups) {
  std::map<int, LayerPlacement> placements;
  std::vector<int> trainable_so_far(static_cast<size_t>(std::max(ep, 0)), 0);
  for (const auto& [number, layer] : layers) {
    LayerPlacement placement = balanced_layer(layer, ep, replicas, groups);
    std::vector<int> trainable(trainable_so_far.size(), 0);
    for (int e = 0; e < layer.num_experts(); ++e)
      trainable[placement.rank_of[e]] += layer.trainable[e];
    // The rank with most here takes the place of the one with fewest so far.
    std::vector<int> here(trainable.size()), so_far(trainable.size()), renamed(trainable.size());
    std::iota(here.begin(), here.end(), 0);
    std::iota(so_far.begin(), so_far.end(), 0);
    std::stable_sort(here.begin(), here.end(),
                     [&](int a, int b) { return trainable[a] > trainable[b]; });
    std::stable_sort(so_far.begin(), so_far.end(),
                     [&](int a, int b) { return trainable_so_far[a] < trainable_so_far[b]; });
    for (size_t i = 0; i < here.size(); ++i) {
      renamed[here[i]] = so_far[i];
      trainable_so_far[so_far[i]] += trainable[here[i]];
    }
    for (int& rank : placement.rank_of) rank = renamed[rank];
    placements[number] = std::move(placement);
  }
  return placements;
}

void add_replicas(const LayerLoad& layer, int replicas, LayerPlacement& placement) {
  placement.replicated = hottest_frozen(layer, replicas);
  placement.token_cost.clear();
  for (int e = 0; e < layer.num_experts(); ++e) {
    placement.token_cost.push_back(LayerLoad::token_cost(layer.trainable[e]));
  }
}

// One expert after the other into the room that the ranks have: few ranks an expert. What rounding
// leaves over, and an expert without load, stays with the owner.
std::vector<std::vector<double>> replica_shares(const LayerPlacement& placement,
                                                const std::vector<double>& load, int ep) {
  std::vector<double> cost = load;
  for (size_t e = 0; e < cost.size(); ++e) cost[e] *= placement.token_cost[e];
  std::vector<double> room = level_costs(placement, cost, ep);
  const std::vector<double> owned = owned_costs(placement, cost, ep);
  for (int r = 0; r < ep; ++r) room[r] -= owned[r];
  std::vector<std::vector<double>> shares;
  size_t rank = 0;
  for (const int expert : placement.replicated) {
    std::vector<double>& of_expert = shares.emplace_back(room.size(), 0.0);
    double left = cost[expert], assigned = 0;
    while (left > 1e-9 * cost[expert] && rank < room.size()) {
      const double part = std::min(left, std::max(0.0, room[rank]));
      of_expert[rank] += part / cost[expert];
      assigned += part / cost[expert];
      left -= part;
      room[rank] -= part;
      if (left > 1e-9 * cost[expert]) ++rank;
    }
    of_expert[placement.rank_of[expert]] += 1 - assigned;
  }
  return shares;
}

std::vector<double> rank_costs(const LayerLoad& layer, const LayerPlacement& placement, int ep) {
  return level_costs(placement, costs_of(layer), ep);
}

double critical_path(const std::map<int, LayerLoad>& layers,
                     const std::map<int, LayerPlacement>& placements, int ep) {
  double slowest = 0, mean = 0;
  for (const auto& [number, layer] : layers) {
    const std::vector<double> costs = rank_costs(layer, placements.at(number), ep);
    slowest += *std::max_element(costs.begin(), costs.end());
    mean += std::accumulate(costs.begin(), costs.end(), 0.0) / ep;
  }
  return mean > 0 ? slowest / mean : 1;
}

}  // namespace sutor
