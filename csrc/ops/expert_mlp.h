// The routed experts of a layer on rows that are grouped by expert: y = W_down(w * act(W_gate x,
// W_up x)), with biases where the family has them (w multiplies that of down, too). Input gradients
// are computed for all experts, weight gradients only for the trainable ones, which stand first,
// directly into fp32. The routing weight multiplies the activation, before W_down: the same
// numbers, and its gradient needs no output row (arXiv 2512.14080).
#pragma once

#include <vector>

#include "csrc/ops/backend.h"
#include "csrc/ops/expert_lora.h"
#include "csrc/ops/gated_activation.h"

namespace sutor::ops {

// The tensors of n experts.
struct ExpertTensors {
  at::Tensor gate_up, down;            // [n, 2I, H], rows gate then up; [n, H, I]
  at::Tensor gate_up_bias, down_bias;  // [n, 2I], [n, H]; undefined when the family has none
};

// Slots [0, num_trainable()) are trainable: all weights of the expert, or the low-rank pairs beside
// its frozen weights (never both in one training). Frozen experts follow.
struct ExpertWeights {
  int64_t num_local = 0;    // slots
  int64_t num_trained = 0;  // of them, those all of whose weights train
  int64_t hidden = 0, width = 0;
  bool has_biases = false;
  // The ranks that share a width compute partial sums: one of them adds the bias of down.
  bool adds_down_bias = false;
  ExpertTensors trained, frozen;  // of num_trained and num_local - num_trained experts
  ExpertTensors grads;            // fp32, shaped as the trained ones
  std::vector<ExpertLora> lora;   // of slots [0, lora.size()); then num_trained is 0

  int64_t num_trainable() const { return num_trained + static_cast<int64_t>(lora.size()); }

  at::Tensor gate_up(int64_t slot) const { return of(&ExpertTensors::gate_up, slot); }
  at::Tensor down(int64_t slot) const { return of(&ExpertTensors::down, slot); }
  at::Tensor gate_up_bias(int64_t slot) const { return of(&ExpertTensors::gate_up_bias, slot); }
  at::Tensor down_bias(int64_t slot) const { return of(&ExpertTensors::down_bias, slot); }
  const ExpertLora* lora_of(int64_t slot) const {
    return slot < static_cast<int64_t>(lora.size()) ? &lora[static_cast<size_t>(slot)] : nullptr;
  }

 private:
  at::Tensor of(at::Tensor ExpertTensors::*member, int64_t slot) const {
    return slot < num_trained ? (trained.*member)[slot] : (frozen.*member)[slot - num_trained];
  }
};

// Rows by reference: row r, in the order of slots, is source[row_index_R[r]], so that the rows need
// not exist before they are multiplied.
struct ExpertRows {
  at::Tensor source;       // [S, H], of the weights' dtype, contiguous
  at::Tensor row_index_R;  // int64 [R]
  at::Tensor weights_R;    // fp32 [R]: the routing weights
  at::Tensor offsets;      // int64 [slots + 1]: slot s has rows [offsets[s], offsets[s + 1])
};

// What the backward pass needs of the forward pass.
struct ExpertsSaved {
  at::Tensor gate_up;  // [R, 2I] before the activation
  at::Tensor inputs;   // on the CPU: the rows of the trainable slots; on a GPU: the source
};

struct ExpertsGradients {
  at::Tensor rows;       // [R, H] in the order of slots; undefined unless requested
  at::Tensor weights_R;  // fp32 [R]; undefined unless requested
};

namespace cpu {
at::Tensor expert_mlp(const ExpertRows& in, const ExpertWeights& experts,
                      const GatedActivation& activation, ExpertsSaved* saved);
ExpertsGradients expert_mlp_backward(const ExpertRows& in, const ExpertWeights& experts,
                                     const GatedActivation& activation, const ExpertsSaved& saved,
                                     const at::Tensor& d_source, bool want_rows, bool want_weights);
}  // namespace cpu
namespace cuda {
at::Tensor expert_mlp(const ExpertRows& in, const ExpertWeights& experts,
                      const GatedActivation& activation, ExpertsSaved* saved);
ExpertsGradients expert_mlp_backward(const ExpertRows& in, const ExpertWeights& experts,
                                     const GatedActivation& activation, const ExpertsSaved& saved,
                                     const at::Tensor& d_source, bool want_rows, bool want_weights);
}  // namespace cuda

// Returns [R, H] in the order of slots. saved: filled for a later backward pass unless null. Slots
// without rows, and no rows at all, are usual. Reads nothing on the host, but the offsets where
// there are low-rank pairs.
inline at::Tensor expert_mlp(const ExpertRows& in, const ExpertWeights& experts,
                             const GatedActivation& activation, ExpertsSaved* saved) {
  const bool on_cuda = is_on_cuda({&in.source, &in.row_index_R, &in.weights_R, &in.offsets,
                                   &experts.trained.gate_up, &experts.frozen.gate_up});
  if constexpr (kHasCuda) {
    if (on_cuda) return cuda::expert_mlp(in, experts, activation, saved);
  }
  return cpu::expert_mlp(in, experts, activation, saved);
}

// d_source [S, H]: the gradient of the output, addressed as the source; in.source is not read. Adds
// the gradients of the weights and pairs of the trainable slots to those in `experts`.
inline ExpertsGradients expert_mlp_backward(const ExpertRows& in, const ExpertWeights& experts,
                                            const GatedActivation& activation,
                                            const ExpertsSaved& saved, const at::Tensor& d_source,
                                            bool want_rows, bool want_weights) {
  const bool on_cuda = is_on_cuda({&d_source, &in.row_index_R, &in.weights_R, &in.offsets,
                                   &saved.gate_up, &experts.trained.gate_up});
  if constexpr (kHasCuda) {
    if (on_cuda) {
      return cuda::expert_mlp_backward(in, experts, activation, saved, d_source, want_rows,
                                       want_weights);
    }
  }
  return cpu::expert_mlp_backward(in, experts, activation, saved, d_source, want_rows,
                                  want_weights);
}

}  // namespace sutor::ops
