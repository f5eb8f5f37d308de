// The SwiGLU MLP of dense layers and shared experts: down(silu(gate x) * up x). With tensor
// parallelism a rank has a part of the width; the ranks' results add up.
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
  at::Tensor forward(const at::Tensor& x) const;  // [T, H]

 private:
  Linear gate_, up_, down_;
};

}  // namespace sutor
