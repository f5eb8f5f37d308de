// Launchers of the gated activation: over elements for a dense MLP (csrc/ops/swiglu.h), over rows
// with routing weights for experts (csrc/ops/expert_mlp.h).
#pragma once

#include "csrc/ops/cuda/kernels/stream.h"
#include "csrc/ops/gated_activation.h"

namespace sutor::ops::cuda {

template <typename T>
void launch_swiglu(const T* gate, const T* up, T* out, int64_t count, cudaStream_t stream);
template <typename T>
void launch_swiglu_gradients(const T* gate, const T* up, const T* d_out, T* d_gate, T* d_up,
                             int64_t count, cudaStream_t stream);

// out[r] = weights[r] * act(the halves of gate_up[r]); gate_up [rows, 2 * width].
template <typename T>
void launch_gated(const GatedActivation& act, const T* gate_up, const float* weights, T* out,
                  int64_t rows, int64_t width, cudaStream_t stream);

template <typename T>
struct GatedGradients {
  T* d_gate_up = nullptr;        // [rows, 2 * width]; null: not wanted
  float* d_weights = nullptr;    // [rows]; null: not wanted
  const int64_t* end = nullptr;  // the first row that nothing is computed of
  // The forward pass's output takes the place of d_out in the rows before this one; null: in none.
  const int64_t* out_end = nullptr;
};

template <typename T>
void launch_gated_gradients(const GatedActivation& act, const T* gate_up, const float* weights,
                            T* d_out, const GatedGradients<T>& to, int64_t rows, int64_t width,
                            cudaStream_t stream);

}  // namespace sutor::ops::cuda
