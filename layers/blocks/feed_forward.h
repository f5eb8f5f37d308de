// The feed-forward half of a decoder layer: a dense MLP or an MoE layer.
#pragma once

#include "layers/batch/forward_context.h"
#include "layers/blocks/mlp.h"

namespace sutor {

class FeedForward {
 public:
  virtual ~FeedForward() = default;
  // [T', H] -> [T', H].
  virtual at::Tensor forward(const at::Tensor& x, ForwardContext& context) const = 0;
};

class DenseFeedForward final : public FeedForward {
 public:
  DenseFeedForward(ParameterStore& store, const std::string& prefix)
      : tensor_parallel_(store.tensor_parallel()), mlp_(store, prefix) {}
  at::Tensor forward(const at::Tensor& x, ForwardContext& context) const override {
    const int64_t tokens = context.batch.num_tokens();
    return tensor_parallel_.leave(mlp_.forward(tensor_parallel_.enter(x, tokens)), tokens);
  }

 private:
  const TensorParallel& tensor_parallel_;
  Mlp mlp_;
};

}  // namespace sutor
