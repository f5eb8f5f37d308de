// The router of an MoE layer: scores of all experts, top-k, weights. MODELS.md table 1a names the
// families' variants; a family states its own through RouterOptions.
#pragma once

#include <ATen/core/Tensor.h>

#include "layers/storage/parameter_store.h"

namespace sutor {

enum class RouterScoring {
  kSoftmax,        // over all experts
  kSoftmaxChosen,  // chosen by their logits, softmax over those that were chosen
  kSigmoid,        // of each expert's logit alone
};

struct RouterOptions {
  int top_k = 1;
  RouterScoring scoring = RouterScoring::kSoftmax;
  bool bias = false;               // added to the logits
  bool fp32_logits = false;        // logits in fp32 whatever the model dtype (DeepSeek)
  bool renormalize = false;        // chosen weights add up to 1
  double renormalize_epsilon = 0;  // added to the sum that they are divided by
  bool fp32_weights = false;       // weights stay fp32, else they are rounded to the model dtype
  double scale = 1.0;              // on the chosen weights, after everything
  // Experts (and groups) are chosen by score + e_score_correction_bias; weights are without it.
  bool correction_bias = false;
  // group-limited: only the best `topk_group` of `num_groups` groups take part, a group being as
  // good as the sum of its `group_best` best experts. 0 groups = all take part.
  int num_groups = 0, topk_group = 0, group_best = 1;
};

struct Routing {
  at::Tensor topk_idx;       // int64 [T, K], no gradient
  at::Tensor topk_weights;   // fp32 [T, K], as multiplied with the expert outputs
  at::Tensor unscaled;       // fp32 [T, K], before `scale`: what the gate score sums
  at::Tensor probabilities;  // fp32 [T, E] over all experts, before any mask; rows add up to 1
};

class Router {
 public:
  // name: model.layers.3.mlp.gate
  Router(ParameterStore& store, const std::string& name, const RouterOptions& options);
  // x [T, H]; mask: fp32 [E], 0 for experts that must not be chosen; undefined: none.
  Routing forward(const at::Tensor& x, const at::Tensor& mask = {}) const;

 private:
  at::Tensor logits_of(const at::Tensor& x) const;
  at::Tensor selection_scores(const at::Tensor& scores, const at::Tensor& mask) const;
  at::Tensor weights_of(const at::Tensor& scores, const at::Tensor& topk_idx,
                        at::ScalarType dtype) const;
  Parameter& weight_;
  Parameter* bias_;             // null: none
  Parameter* correction_bias_;  // null: none
  RouterOptions options_;
};

}  // namespace sutor
