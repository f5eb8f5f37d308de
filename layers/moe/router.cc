#include "layers/moe/router.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>

namespace sutor {
namespace {

// The selection score of experts that must not be chosen: below all others, and low enough that two
// of them add up to less than one of them and any other.
constexpr double kExcluded = -1e30;

}  // namespace

Router::Router(ParameterStore& store, const std::string& name, const RouterOptions& options)
    : weight_(store.get(name + ".weight")),
      bias_(options.bias ? &store.get(name + ".bias") : nullptr),
      correction_bias_(options.correction_bias ? &store.get(name + ".e_score_correction_bias")
                                               : nullptr),
      options_(options) {}

// [T, E]: scores with the correction bias; kExcluded for masked experts and those of groups that
// were not chosen.
at::Tensor Router::selection_scores(const at::Tensor& scores, const at::Tensor& mask) const {
  at::Tensor selection_scores = correction_bias_ ? scores + correction_bias_->value : scores;
  if (mask.defined()) selection_scores = selection_scores.masked_fill(mask == 0, kExcluded);
  if (options_.num_groups == 0) return selection_scores;
  const int64_t tokens = selection_scores.size(0), experts = selection_scores.size(1);
  const at::Tensor grouped =
      selection_scores.view({tokens, options_.num_groups, experts / options_.num_groups});
  const at::Tensor group_scores = std::get<0>(at::topk(grouped, options_.group_best, -1)).sum(-1);
  const at::Tensor chosen = std::get<1>(at::topk(group_scores, options_.topk_group, -1));
  const at::Tensor excluded = at::ones_like(group_scores, at::kBool).scatter_(1, chosen, false);
  return grouped.masked_fill(excluded.unsqueeze(2), kExcluded).view({tokens, experts});
}

at::Tensor Router::logits_of(const at::Tensor& x) const {
  const at::Tensor bias = bias_ ? bias_->value : at::Tensor();
  if (!options_.fp32_logits) return at::linear(x, weight_.value, bias);
  return at::linear(x.to(at::kFloat), weight_.value.to(at::kFloat),
                    bias_ ? bias.to(at::kFloat) : bias);
}

// [T, K] in fp32, before the scale; dtype: the model's.
at::Tensor Router::weights_of(const at::Tensor& scores, const at::Tensor& topk_idx,
                              at::ScalarType dtype) const {
  at::Tensor weights = scores.gather(1, topk_idx);
  if (options_.scoring == RouterScoring::kSoftmaxChosen) weights = at::softmax(weights, -1);
  if (options_.renormalize) {
    weights = weights / (weights.sum(-1, /*keepdim=*/true) + options_.renormalize_epsilon);
  }
  return options_.fp32_weights ? weights : weights.to(dtype).to(at::kFloat);
}

Routing Router::forward(const at::Tensor& x, const at::Tensor& mask) const {
  const at::Tensor logits = logits_of(x);
  const bool sigmoid = options_.scoring == RouterScoring::kSigmoid;
  at::Tensor scores =
      sigmoid ? at::sigmoid(logits.to(at::kFloat)) : at::softmax(logits, -1, at::kFloat);
  Routing routing;
  routing.probabilities = sigmoid ? scores / scores.sum(-1, /*keepdim=*/true) : scores;
  if (options_.scoring == RouterScoring::kSoftmaxChosen) scores = logits.to(at::kFloat);
  {
    at::NoGradGuard no_grad;
    routing.topk_idx =
        std::get<1>(at::topk(selection_scores(scores.detach(), mask), options_.top_k, -1));
  }
  const at::Tensor weights = weights_of(scores, routing.topk_idx, x.scalar_type());
  routing.unscaled = weights.detach();
  routing.topk_weights = options_.scale == 1.0 ? weights : weights * options_.scale;
  return routing;
}

}  // namespace sutor
