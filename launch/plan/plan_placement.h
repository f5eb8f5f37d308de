// `sutor plan --placement`: what a balanced placement of experts would bring.
#pragma once

#include <filesystem>
#include <string>

namespace sutor {

struct PlacementRequest {
  std::filesystem::path scores;  // any form that select reads; records when `halves`
  std::filesystem::path config;  // expert config: what trains; numbered as the scores are
  int ep = 1;
  int replicas = 0;     // of frozen experts, a layer
  int groups = 1;       // of the router
  bool halves = false;  // choose by the first half of the tokens, evaluate on the second
  bool json = false;
};

// Prints contiguous and balanced placement side by side. Throws E0202 without scores or config,
// E0210 for an ep that does not fit, E0328 for a config with other experts than the scores, and
// what the readers throw.
void print_placement(const PlacementRequest& request);

}  // namespace sutor
