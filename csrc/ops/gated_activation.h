// What joins the two halves of an MLP. Free of torch: the kernels of all devices read it.
#pragma once

#include <limits>

namespace sutor::ops {

// act(gate, up) = (u + up_offset) * g * sigmoid(alpha * g), where g = min(gate, limit) and u =
// clamp(up, -limit, limit). As it stands here it is SwiGLU's.
struct GatedActivation {
  float alpha = 1, limit = std::numeric_limits<float>::infinity(), up_offset = 0;
  bool is_swiglu() const { return alpha == 1 && up_offset == 0 && !(limit < 1e30f); }
};

}  // namespace sutor::ops
