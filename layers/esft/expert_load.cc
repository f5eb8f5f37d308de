#include "layers/esft/expert_load.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sutor {
namespace {

double ratio(int64_t part, int64_t all) {
  return all > 0 ? static_cast<double>(part) / static_cast<double>(all) : 0;
}

}  // namespace

LayerLoad layer_load(const ExpertScores& scores, int layer) {
  const std::span<const int64_t> counts = scores.counts(layer);
  LayerLoad load{.layer = layer, .tokens = scores.num_tokens(layer)};
  const auto experts = static_cast<double>(counts.size());
  const double all = static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  const double mean = all / experts;
  for (size_t e = 0; e < counts.size(); ++e) {
    if (counts[e] == 0) load.dead.push_back(static_cast<int>(e));
  }
  if (all == 0) return load;
  const auto busiest = std::max_element(counts.begin(), counts.end());
  load.busiest = static_cast<int>(busiest - counts.begin());
  load.max_over_mean = static_cast<double>(*busiest) / mean;
  std::vector<int64_t> sorted(counts.begin(), counts.end());
  std::sort(sorted.begin(), sorted.end());
  const auto rank = static_cast<size_t>(std::ceil(0.95 * experts));
  load.p95_over_mean = static_cast<double>(sorted[rank - 1]) / mean;
  double squares = 0, entropy = 0;
  for (const int64_t count : counts) {
    const double share = static_cast<double>(count) / all;
    squares += (static_cast<double>(count) - mean) * (static_cast<double>(count) - mean);
    if (count > 0) entropy -= share * std::log(share);
  }
  load.cv = std::sqrt(squares / experts) / mean;
  load.entropy = counts.size() > 1 ? entropy / std::log(experts) : 1;
  return load;
}

void Traffic::add(const Traffic& other) {
  choices += other.choices;
  all_choices += other.all_choices;
  weight += other.weight;
  all_weight += other.all_weight;
}

double Traffic::share() const { return ratio(choices, all_choices); }
double Traffic::gate_share() const { return ratio(weight, all_weight); }

Traffic traffic_of(const ExpertScores& scores, int layer, const std::vector<int>& ids) {
  const std::span<const int64_t> counts = scores.counts(layer);
  const std::span<const int64_t> gates = scores.gate_sums(layer);
  Traffic traffic{.all_choices = std::accumulate(counts.begin(), counts.end(), int64_t{0}),
                  .all_weight = std::accumulate(gates.begin(), gates.end(), int64_t{0})};
  for (const int id : ids) {
    traffic.choices += counts[static_cast<size_t>(id)];
    traffic.weight += gates[static_cast<size_t>(id)];
  }
  return traffic;
}

}  // namespace sutor
