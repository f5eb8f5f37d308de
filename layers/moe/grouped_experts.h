// The routed experts of a layer on one rank, trainable ones first: y = W_down(w * act(W_gate x,
// W_up x)) for rows grouped by slot, with biases where the family has them (w multiplies that of
// down, too). Input gradients are computed for all slots, weight gradients only for the trainable
// ones, directly into the flat fp32 gradient. The routing weight multiplies the activation, before
// W_down: the same numbers, and its gradient needs no output row (arXiv 2512.14080).
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "csrc/ops/gated_activation.h"
#include "layers/moe/token_dispatcher.h"
#include "layers/storage/expert_storage.h"

namespace sutor {

// What the backward pass needs. Rt: rows of the trainable slots.
struct ExpertsSaved {
  at::Tensor gate_up;         // [R, 2I] before the activation
  at::Tensor trainable_rows;  // [Rt, H] inputs of the trainable slots
};

struct ExpertsGradients {
  at::Tensor rows;       // [R, H] in slot order; undefined unless requested
  at::Tensor weights_R;  // fp32; undefined unless requested
};

class GroupedExperts {
 public:
  explicit GroupedExperts(ExpertStorage& storage, const ops::GatedActivation& activation = {})
      : storage_(storage), activation_(activation) {}
  const ExpertStorage& storage() const { return storage_; }

  // Returns [R, H] in slot order. saved: filled for a later backward() unless null.
  at::Tensor forward(const Dispatched& in, ExpertsSaved* saved) const;
  // d_source: the gradient of the output, with the layout of in.source. Adds the gradients of the
  // weights and pairs of the trainable slots to those in the storage.
  ExpertsGradients backward(const Dispatched& in, const ExpertsSaved& saved,
                            const at::Tensor& d_source, bool want_rows, bool want_weights) const;

 private:
  void weight_gradients(const std::vector<int64_t>& offsets, const at::Tensor& x_rows,
                        const at::Tensor& d_gate_up, const at::Tensor& act,
                        const at::Tensor& d_rows) const;
  void bias_gradients(const Dispatched& in, const at::Tensor& d_gate_up,
                      const at::Tensor& d_rows) const;
  void lora_gradients(const std::vector<int64_t>& offsets, const at::Tensor& x_rows,
                      const at::Tensor& d_gate_up, const at::Tensor& act,
                      const at::Tensor& d_rows) const;
  const ExpertLora* lora_of(int64_t slot) const {
    return slot < static_cast<int64_t>(storage_.lora.size()) ? &storage_.lora[slot] : nullptr;
  }
  bool adds_down_bias() const { return storage_.has_biases && storage_.adds_down_bias; }
  ExpertStorage& storage_;
  ops::GatedActivation activation_;
};

}  // namespace sutor
