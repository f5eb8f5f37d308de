#include "layers/router.h"

#include <torch/types.h>

namespace sutor {

// Probabilities with those of masked experts and of the groups that are out set to 0.
at::Tensor Router::eligible(const at::Tensor& all, const at::Tensor& mask) const {
  const at::Tensor probabilities = mask.defined() ? all * mask : all;
  if (options_.num_groups == 0) return probabilities;
  const int64_t tokens = probabilities.size(0), experts = probabilities.size(1);
  const at::Tensor best =
      probabilities.view({tokens, options_.num_groups, experts / options_.num_groups}).amax(-1);
  const at::Tensor chosen = std::get<1>(at::topk(best, options_.topk_group, -1));
  at::Tensor in = at::zeros_like(best).scatter_(1, chosen, 1.0);
  in = in.unsqueeze(2).expand({-1, -1, experts / options_.num_groups}).reshape({tokens, experts});
  return probabilities * in;
}

Routing Router::forward(const at::Tensor& x, const at::Tensor& mask) const {
  const at::Tensor logits = options_.fp32_logits
                                ? at::linear(x.to(at::kFloat), weight_.value.to(at::kFloat))
                                : at::linear(x, weight_.value);
  Routing routing;
  routing.probabilities = at::softmax(logits, -1, at::kFloat);
  {
    at::NoGradGuard no_grad;
    routing.topk_idx =
        std::get<1>(at::topk(eligible(routing.probabilities.detach(), mask), options_.top_k, -1));
  }
  at::Tensor weights = routing.probabilities.gather(1, routing.topk_idx);
  if (options_.renormalize) weights = weights / weights.sum(-1, /*keepdim=*/true);
  if (!options_.fp32_weights) weights = weights.to(x.scalar_type()).to(at::kFloat);
  routing.unscaled = weights.detach();
  routing.topk_weights = options_.scale == 1.0 ? weights : weights * options_.scale;
  return routing;
}

}  // namespace sutor
