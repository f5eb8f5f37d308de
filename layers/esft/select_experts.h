// Which experts to train, from scores. Follows the authors: scores are rounded to 4 decimals,
// experts taken in falling order (ties: lower id first) while the sum so far is below top_p.
#pragma once

#include <string>
#include <vector>

#include "layers/esft/esft_options.h"
#include "layers/esft/expert_scores.h"
#include "parallel_state/model/expert_config.h"

namespace sutor {

struct LayerSelection {
  int layer = 0;  // key as in the scores
  int chosen = 0;
  double share = 0;  // of the layer's selections (token score; with method gate: the gate score)
  bool all = false;  // the scores do not reach top_p, so every expert was taken
};

struct Selection {
  ExpertConfig config;
  std::vector<LayerSelection> layers;
  double top_p = 0;  // what token and gate used; 0 for the other methods
};

// Methods:
//   token, gate  as above, with the token or the gate score; at least min_per_layer
//   top_n        the n best a layer by token score
//   budget       round(budget * all routed experts) by token score over all layers, after every
//   layer
//                has its min_per_layer best; ties: lower layer, then lower id
//   random       n a layer, or as many as `token` would take; drawn without replacement by a
//   partial
//                Fisher-Yates shuffle of the ids, SplitMix64 seeded with seed + golden ratio *
//                (layer
//                + 1), a draw below m being the high word of m * random. In the order drawn.
// Throws E0217 for an unknown method, a value out of range or missing, E0327 for scores
// that lack the layer or the kind asked for, E0315 for an empty selection.
Selection select_experts(const SelectOptions& options, const ScoreTable& scores);

}  // namespace sutor
