#include "launch/plan/plan_placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/base/text/json.h"
#include "layers/esft/score_records.h"
#include "parallel_state/model/expert_config.h"
#include "parallel_state/placement/balanced_placement.h"

namespace sutor {
namespace {

using Layers = std::map<int, LayerLoad>;
using Placements = std::map<int, LayerPlacement>;

Layers layers_of(const ScoreTable& scores, const ExpertConfig& config, const std::string& where) {
  Layers layers = frozen_layers(scores.token);
  for (const auto& [layer, experts] : config.experts) {
    const auto found = layers.find(layer);
    for (const int expert : experts) {
      if (found == layers.end() || expert < 0 || expert >= found->second.num_experts()) {
        fail(ErrorCode::kOtherScores,
             "{}: layer {}, expert {}: there are no scores of it. Are both of one model?", where,
             layer, expert);
      }
      found->second.trainable[expert] = true;
    }
  }
  return layers;
}

// How evenly the work of all layers is distributed over the ranks; 1 is even.
struct PlacementMetrics {
  double critical_path = 1;    // slowest rank over the mean, summed over layers
  double forward_tokens = 1;   // the same for tokens alone
  double trained_experts = 1;  // most trained experts of a rank over the mean
};

PlacementMetrics evaluate(const Layers& layers, const Placements& placements, int ep) {
  PlacementMetrics result{.critical_path = critical_path(layers, placements, ep)};
  Layers frozen = layers;
  for (auto& [number, layer] : frozen) layer.trainable.assign(layer.trainable.size(), false);
  result.forward_tokens = critical_path(frozen, placements, ep);
  std::vector<int> trained(static_cast<size_t>(ep), 0);
  int all = 0;
  for (const auto& [number, layer] : layers) {
    for (int e = 0; e < layer.num_experts(); ++e) {
      if (!layer.trainable[e]) continue;
      ++trained[placements.at(number).rank_of[e]];
      ++all;
    }
  }
  if (all > 0) {
    const int most = *std::max_element(trained.begin(), trained.end());
    result.trained_experts = static_cast<double>(most) * ep / all;
  }
  return result;
}

nlohmann::ordered_json to_json(const PlacementMetrics& metrics) {
  return {{"critical_path", metrics.critical_path},
          {"forward_tokens", metrics.forward_tokens},
          {"trained_experts", metrics.trained_experts}};
}

void print_line(const char* name, const PlacementMetrics& metrics) {
  fmt::print("{:<12}{:>14.3f}{:>16.3f}{:>17.3f}\n", name, metrics.critical_path,
             metrics.forward_tokens, metrics.trained_experts);
}

}  // namespace

void print_placement(const PlacementRequest& request) {
  if (request.scores.empty() || request.config.empty()) {
    fail(ErrorCode::kBadArgument, "sutor plan --placement: give --scores and --config.");
  }
  ScoreTable chosen_by, evaluated_on;
  if (request.halves) {
    const auto [first, second] = read_record_halves(request.scores);
    chosen_by = first.table();
    evaluated_on = second.table();
  } else {
    chosen_by = evaluated_on = read_score_table(request.scores);
    for (const std::string& remark : remarks_on(chosen_by, false, request.scores.string())) {
      fmt::print(stderr, "{}\n", remark);
    }
  }
  const ExpertConfig config = read_expert_config(request.config);
  const std::string where = request.config.string();
  const Placements balanced = balanced_layers(layers_of(chosen_by, config, where), request.ep,
                                              request.replicas, request.groups);
  const Layers layers = layers_of(evaluated_on, config, where);
  Placements contiguous;
  for (const auto& [number, layer] : layers) {
    contiguous[number] = contiguous_layer(layer.num_experts(), request.ep);
  }
  const PlacementMetrics before = evaluate(layers, contiguous, request.ep);
  const PlacementMetrics after = evaluate(layers, balanced, request.ep);
  if (request.json) {
    nlohmann::ordered_json json = {{"ep", request.ep}, {"replicas", request.replicas}};
    json["contiguous"] = to_json(before);
    json["balanced"] = to_json(after);
    for (const auto& [number, placement] : balanced) {
      json["layers"][std::to_string(number)] = {{"rank_of", placement.rank_of},
                                                {"replicated", placement.replicated}};
    }
    fmt::print("{}\n", dump_json(json));
    return;
  }
  fmt::print(
      "{} layers of {} experts on {} ranks, {} frozen experts replicated; highest rank over "
      "mean{}\n",
      layers.size(), evaluated_on.num_experts, request.ep, request.replicas,
      request.halves ? ", chosen by the first half of the tokens and evaluated on the second" : "");
  fmt::print("{:<12}{:>14}{:>16}{:>17}\n", "", "critical path", "forward tokens",
             "trained experts");
  print_line("contiguous", before);
  print_line("balanced", after);
  fmt::print("expert work takes {:.2f} of the time\n", after.critical_path / before.critical_path);
}

}  // namespace sutor
