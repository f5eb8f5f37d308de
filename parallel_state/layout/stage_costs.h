// Chooses the boundaries of pipeline stages so that the slowest stage is as fast as possible:
// `parallel.stages: auto`. Pure arithmetic from the table of tensors, the same on every rank.
//
// A pipeline goes at the pace of its costliest stage. When selected experts train, frozen layers
// below the lowest trainable one cost a third of a trainable layer or less, so equal numbers of
// layers would leave their stages idle.
#pragma once

#include <functional>
#include <vector>

#include "parallel_state/layout/stage_map.h"
#include "parallel_state/model/model_info.h"

namespace sutor {

// Whether a tensor of the model trains.
using Trains = std::function<bool(const TensorEntry&)>;

// Multiply-adds per token, forward and backward.
struct StageCosts {
  std::vector<double> layers;  // [num_layers]
  double embedding = 0;        // on the first stage
  double head = 0;             // final norm, head and loss, on the last stage
};

// Layers below the lowest trainable one cost their forward, one multiply-add for each element that
// a token uses: all elements of a dense tensor, top_k / num_experts of those of a routed expert.
// The other layers also cost the input gradient, as much again, and the weight gradients of what
// trains there. The head adds its input gradient when anything below it trains. `supervised`: the
// fraction of tokens that reach the head. Attention scores are not counted: they grow with the
// length of the sequence and are the same in all layers.
StageCosts stage_costs(const ModelInfo& model, const Trains& trains, double supervised = 1);

// The number of layers of each stage, at least one: exactly the split whose costliest stage is
// cheapest. Of several such splits it is the most even one (least sum of squares), then the one
// whose earlier stages have more layers. 1 <= num_stages <= layers.
std::vector<int> balanced_stages(const StageCosts& costs, int num_stages);

// The map for a value of `parallel.stages`: even, a table, or auto. Throws E0211 as StageMap does.
StageMap make_stage_map(const ModelInfo& model, int num_stages, const std::string& stages,
                        const Trains& trains);

}  // namespace sutor
