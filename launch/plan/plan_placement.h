// `sutor plan --placement`: compares the balanced with the contiguous placement of experts.
#pragma once

#include <filesystem>
#include <string>

namespace sutor {

struct PlacementRequest {
  std::filesystem::path scores;  // any form that select reads; records with `halves`
  std::filesystem::path config;  // expert config: what trains; numbered as the scores are
  int ep = 1;
  int replicas = 0;     // frozen experts per layer that every rank has
  int groups = 1;       // of the router
  bool halves = false;  // choose by the first half of the tokens, evaluate on the second
  bool json = false;
};

// Prints both placements side by side. Throws E0202 without scores or config, E0210 for an ep that
// does not fit, E0313 for a config with experts that the scores do not have, and what the readers
// throw.
void print_placement(const PlacementRequest& request);

}  // namespace sutor
