// The activation between the two halves of an MLP, and its gradient: serial, without torch; T as in
// row_kernels.h.
#pragma once

#include <cstdint>

#include "csrc/ops/gated_activation.h"

namespace sutor::ops {

// out[n, i] = weight[n] * act(gate[n, i], up[n, i]); gate and up have their own row strides.
// weight may be null (1).
template <typename T>
void activation_forward(const GatedActivation& act, const T* gate, const T* up, int64_t stride,
                        const float* weight, T* out, int64_t rows, int64_t width);
// From d_out, the gradient of weight * act(gate, up). Writes d_gate and d_up (row stride
// `stride`), the forward output again if `out` is not null, and d_weight[n] = <d_out, act(gate,
// up)> if it is not null. d_gate / d_up may be null when only the others are wanted.
template <typename T>
void activation_backward(const GatedActivation& act, const T* gate, const T* up, int64_t stride,
                         const float* weight, const T* d_out, T* d_gate, T* d_up, T* out,
                         float* d_weight, int64_t rows, int64_t width);

}  // namespace sutor::ops
