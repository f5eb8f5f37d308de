// The gated activation of one row (csrc/ops/gated_activation.h), and its gradient. With a weight
// of 1 and the default activation they are those of a dense MLP.
#pragma once

#include "csrc/ops/cuda/rows/number.h"
#include "csrc/ops/gated_activation.h"

namespace sutor::ops::cuda {

struct GateDerivatives {
  float gate, up;
};

struct Swiglu {
  SUTOR_HOST_DEVICE float value(float gate, float up) const { return gate * sigmoid(gate) * up; }
  SUTOR_HOST_DEVICE GateDerivatives derivatives(float gate, float up) const {
    const float s = sigmoid(gate);
    return {up * s * (1.0f + gate * (1.0f - s)), gate * s};
  }
};

struct ClampedGate {
  float alpha, limit, offset;

  SUTOR_HOST_DEVICE float value(float gate, float up) const {
    const float g = fminf(gate, limit), u = fminf(fmaxf(up, -limit), limit);
    return (u + offset) * g * sigmoid(alpha * g);
  }
  SUTOR_HOST_DEVICE GateDerivatives derivatives(float gate, float up) const {
    const float g = fminf(gate, limit), u = fminf(fmaxf(up, -limit), limit);
    const float s = sigmoid(alpha * g);
    return {gate <= limit ? (u + offset) * s * (1.0f + alpha * g * (1.0f - s)) : 0.0f,
            up >= -limit && up <= limit ? g * s : 0.0f};
  }
};

// out[i] = weight * act(gate[i], up[i])
template <typename Block, typename Act, typename T>
SUTOR_HOST_DEVICE void gated_row(const Block& block, const Act& act, const T* gate, const T* up,
                                 float weight, T* out, int64_t width) {
  block.each(width, [=](int64_t i) { put(out[i], weight * act.value(get(gate[i]), get(up[i]))); });
}

// Where the gradient of a row goes; null: not wanted.
template <typename T>
struct GatedGradientRow {
  T *gate = nullptr, *up = nullptr;
  T* out = nullptr;         // the forward pass's output again; may be where d_out is
  float* weight = nullptr;  // <d_out, act(gate, up)>
};

// d_out: the gradient of weight * act(gate, up).
template <typename Block, typename Act, typename T>
SUTOR_HOST_DEVICE void gated_gradient_row(const Block& block, const Act& act, const T* gate,
                                          const T* up, float weight, const T* d_out,
                                          const GatedGradientRow<T>& to, int64_t width) {
  if (to.weight != nullptr) {
    const float dot = block.template sum<float>(
        width, [=](int64_t i) { return get(d_out[i]) * act.value(get(gate[i]), get(up[i])); });
    block.once([=] { *to.weight = dot; });
  }
  if (to.gate == nullptr && to.out == nullptr) return;
  block.each(width, [=](int64_t i) {
    const float g = get(gate[i]), u = get(up[i]), d = weight * get(d_out[i]);
    if (to.gate != nullptr) {
      const GateDerivatives derivatives = act.derivatives(g, u);
      put(to.gate[i], d * derivatives.gate);
      put(to.up[i], d * derivatives.up);
    }
    if (to.out != nullptr) put(to.out[i], weight * act.value(g, u));
  });
}

}  // namespace sutor::ops::cuda
