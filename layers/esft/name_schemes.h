// How a parameter is called inside a rank: from the plan's global names to what a framework's
// named_parameters() shows there, and regular expressions that match exactly the trained ones.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "layers/esft/trainable_params.h"
#include "parallel_state/layout/rank_layout.h"
#include "parallel_state/layout/stage_map.h"
#include "parallel_state/model/model_info.h"
#include "parallel_state/placement/expert_placement.h"

namespace sutor {

// Schemes:
//   hf              global names
//   sutor           global names without the leading "model."; a routed expert is
//                   layers.<global layer>.experts.<local expert>.<gate|up|down>_proj.weight
//   megatron-te     Megatron-Core with Transformer Engine: local layers, local experts,
//                   mlp.experts.linear_fc<1|2>.weight<local expert>; gate and up are one
//                   linear_fc1; norms that TE fuses into the next linear are its layer_norm_weight
//   megatron-local  Megatron-Core's local layers:
//                   mlp.experts.local_experts.<local expert>.linear_fc<1|2>.weight
//   a pattern       with {layer} (global) or {local_layer}, {expert} (local) or {global_expert},
//                   and {proj}: gate_proj, up_proj, down_proj - or gate, up, down when "_proj"
//                   follows the placeholder; {kind}: weight or bias. Without {proj} the three
//                   share a name, without {kind} an expert's weights and biases do. Routed experts
//                   only.
// Biases of experts are named as their weights, with "bias" for "weight".
class NameScheme {
 public:
  // Throws E0214 for an unknown scheme, an unknown placeholder, or a pattern without layer or
  // expert.
  explicit NameScheme(std::string scheme_or_pattern);
  bool is_pattern() const { return is_pattern_; }
  const std::string& text() const { return text_; }

  struct LocalIndex {
    int local_layer = 0;
    int local_expert = 0;
  };
  // The local name of a tensor. Megatron schemes throw E0215 for a tensor they have no name for.
  std::string local_name(const TensorEntry& tensor, const LocalIndex& index,
                         const ModelInfo& model) const;

 private:
  std::string text_;
  bool is_pattern_ = false;
};

struct RankNames {
  std::vector<std::string> all;        // every parameter of the rank that the scheme covers
  std::vector<std::string> trainable;  // a subset, in the same order; no name stands twice
};

// The names of `rank`. A tied embedding is also on the last stage (there Megatron's output_layer).
// Throws E0214 when a pattern is used and more than routed experts trains, E0215 when a fused name
// holds tensors of which only some train (e.g. linear_qkv with a trained q_proj and frozen k_proj).
RankNames rank_names(const ModelInfo& model, const TrainableSet& plan, const NameScheme& scheme,
                     const RankLayout& layout, const StageMap& stages,
                     const ExpertPlacement& placement, int rank);

// ^(...)$ that matches each of `names` and no other text; alternatives share their common parts.
// No names: "^(\b\B)$", which matches nothing. Valid in Python's re and ECMAScript (std::regex).
std::string anchored_regex(const std::vector<std::string>& names);

}  // namespace sutor
