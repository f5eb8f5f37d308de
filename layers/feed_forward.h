// The feed-forward half of a decoder layer: a dense MLP or an MoE layer.
#pragma once

#include "layers/forward_context.h"
#include "layers/mlp.h"

namespace sutor {

class FeedForward {
 public:
  virtual ~FeedForward() = default;
  virtual at::Tensor forward(const at::Tensor& x, ForwardContext& context) const = 0;  // [T, H]
};

class DenseFeedForward final : public FeedForward {
 public:
  DenseFeedForward(ParameterStore& store, const std::string& prefix) : mlp_(store, prefix) {}
  at::Tensor forward(const at::Tensor& x, ForwardContext&) const override {
    return mlp_.forward(x);
  }

 private:
  Mlp mlp_;
};

}  // namespace sutor
