// The router of an MoE layer: softmax over all experts, top-k, weights. MODELS.md table 1a names
// the families' variants; a family states its own through RouterOptions.
#pragma once

#include <ATen/core/Tensor.h>

#include "layers/parameter_store.h"

namespace sutor {

struct RouterOptions {
  int top_k = 1;
  bool fp32_logits = false;   // logits in fp32 whatever the model dtype (DeepSeek)
  bool renormalize = false;   // chosen weights add up to 1
  bool fp32_weights = false;  // weights stay fp32, else they are rounded to the model dtype
  double scale = 1.0;         // on the chosen weights, after everything
  // group-limited: only the best `topk_group` of `num_groups` groups take part, a group being as
  // good as its best expert. 0 groups = all take part.
  int num_groups = 0, topk_group = 0;
};

struct Routing {
  at::Tensor topk_idx;       // int64 [T, K], no gradient
  at::Tensor topk_weights;   // fp32 [T, K], as multiplied with the expert outputs
  at::Tensor unscaled;       // fp32 [T, K], before `scale`: what the gate score sums
  at::Tensor probabilities;  // fp32 [T, E] over all experts, before any mask
};

class Router {
 public:
  Router(ParameterStore& store, const std::string& weight, const RouterOptions& options)
      : weight_(store.get(weight)), options_(options) {}
  // x [T, H]; mask: fp32 [E], 0 for experts that must not be chosen; undefined: none.
  Routing forward(const at::Tensor& x, const at::Tensor& mask = {}) const;

 private:
  at::Tensor eligible(const at::Tensor& probabilities, const at::Tensor& mask) const;
  Parameter& weight_;
  RouterOptions options_;
};

}  // namespace sutor
