// The routed experts of a layer on one rank (csrc/ops/expert_mlp.h has the mathematics), with the
// rows that a dispatcher brought.
#pragma once

#include <ATen/core/Tensor.h>

#include "csrc/ops/expert_mlp.h"
#include "layers/moe/token_dispatcher.h"
#include "layers/storage/expert_storage.h"

namespace sutor {

class GroupedExperts {
 public:
  explicit GroupedExperts(ExpertStorage& storage, const ops::GatedActivation& activation = {})
      : storage_(storage), activation_(activation) {}
  const ExpertStorage& storage() const { return storage_; }

  // Returns [R, H] in slot order. saved: filled for a later backward() unless null.
  at::Tensor forward(const Dispatched& in, ops::ExpertsSaved* saved) const;
  // d_source: the gradient of the output, with the layout of in.source. Adds the gradients of the
  // weights and pairs of the trainable slots to those in the storage.
  ops::ExpertsGradients backward(const Dispatched& in, const ops::ExpertsSaved& saved,
                                 const at::Tensor& d_source, bool want_rows,
                                 bool want_weights) const;

 private:
  ExpertStorage& storage_;
  ops::GatedActivation activation_;
};

}  // namespace sutor
