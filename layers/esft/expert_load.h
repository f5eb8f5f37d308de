// How evenly a layer's routed experts are used, and how much of the traffic given ones get.
#pragma once

#include <cstdint>
#include <vector>

#include "layers/esft/expert_scores.h"

namespace sutor {

struct LayerLoad {
  int layer = 0;       // global
  int64_t tokens = 0;  // each chooses top_k experts
  // Of the numbers of choices of the layer's experts; all 0 for a layer without tokens.
  double max_over_mean = 0;
  int busiest = 0;           // the expert with most; the lowest id of several
  double p95_over_mean = 0;  // 95% of the experts have at most this (nearest rank)
  double cv = 0;             // standard deviation over mean
  double entropy = 0;        // over that of even use: 1 is even, 0 one expert alone
  std::vector<int> dead{};   // experts without a choice, rising
};
LayerLoad layer_load(const ExpertScores& scores, int layer);

// What experts `ids` of a layer got, and what all of its experts did.
struct Traffic {
  int64_t choices = 0, all_choices = 0;
  int64_t weight = 0, all_weight = 0;  // gate sums, in units of 2^-29
  void add(const Traffic& other);
  // Shares of the choices and of the gate weight; 0 where there is nothing.
  double share() const;
  double gate_share() const;
};
Traffic traffic_of(const ExpertScores& scores, int layer, const std::vector<int>& ids);

}  // namespace sutor
