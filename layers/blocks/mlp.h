// The SwiGLU MLP of dense layers and shared experts: down(silu(gate x) * up x). With tensor
// parallelism a rank has a shard of the width, and computes a partial sum of the result.
#pragma once

#include "layers/blocks/linear.h"

namespace sutor {

class Mlp {
 public:
  // prefix: model.layers.0.mlp, model.layers.3.mlp.shared_experts ...
  Mlp(ParameterStore& store, const std::string& prefix)
      : gate_(store, prefix + ".gate_proj"),
        up_(store, prefix + ".up_proj"),
        down_(store, prefix + ".down_proj") {}
  at::Tensor forward(const at::Tensor& x) const;  // [T, H] -> [T, H]

 private:
  Linear gate_, up_, down_;
};

}  // namespace sutor
