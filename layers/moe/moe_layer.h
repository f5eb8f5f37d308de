// The feed-forward half of an MoE layer: router, dispatch, routed experts, combine, shared experts.
#pragma once

#include <memory>
#include <optional>

#include "csrc/ops/gated_activation.h"
#include "layers/blocks/feed_forward.h"
#include "layers/blocks/mlp.h"
#include "layers/moe/grouped_experts.h"
#include "layers/moe/router.h"

namespace sutor {

struct MoeOptions {
  RouterOptions router;
  ops::GatedActivation activation{};  // of the routed experts
  std::string gate = "gate";          // name of the router inside the block
  std::string shared;                 // of the shared experts; empty: none
  std::string shared_gate;  // of the linear [1, H] whose sigmoid weights them; empty: none
};

class MoeLayer final : public FeedForward {
 public:
  // prefix: model.layers.3.mlp
  MoeLayer(ParameterStore& store, int layer, const std::string& prefix, const MoeOptions& options);
  // [T', H] -> [T', H]. Collective over the ranks that have the layer, forward and backward, with
  // or without tokens.
  at::Tensor forward(const at::Tensor& x, ForwardContext& context) const override;

 private:
  at::Tensor shared_experts(const at::Tensor& x) const;
  at::Tensor mask_of(const ForwardContext& context) const;
  at::Tensor with_balance_loss(const Routing& routing, ForwardContext& context) const;

  const TensorParallel& tensor_parallel_;
  const ParallelState& parallel_;
  int layer_;
  Router router_;
  GroupedExperts experts_;
  std::unique_ptr<TokenDispatcher> dispatcher_;
  std::optional<Mlp> shared_;
  std::optional<Linear> shared_gate_;
};

}  // namespace sutor
