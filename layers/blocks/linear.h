// y = x W^T (+ b) (+ scale (x A^T) B^T with a low-rank pair), with this rank's shard of the weight.
// Autograd saves no input for the backward pass where the weight is frozen.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/linear.h>

#include "layers/storage/parameter_store.h"

namespace sutor {

class Linear {
 public:
  // name: global name without ".weight"; uses bias and pair when the model has them.
  Linear(ParameterStore& store, const std::string& name)
      : weight_(store.get(name + ".weight")),
        bias_(store.find(name + ".bias")),
        lora_a_(store.find(name + ".lora_A.weight")),
        lora_b_(store.find(name + ".lora_B.weight")),
        lora_scale_(store.model().lora_scale) {
    // Where the inputs are sharded, the ranks' results are partial sums: one rank adds the bias.
    const bool sums = weight_.split.axis == TensorSplit::Axis::kColumns;
    if (sums && !store.tensor_parallel().is_first()) bias_ = nullptr;
  }

  at::Tensor forward(const at::Tensor& x) const {  // [..., in] -> [..., out]
    const at::Tensor y =
        bias_ ? at::linear(x, weight_.value, bias_->value) : at::linear(x, weight_.value);
    if (!lora_a_) return y;
    return y + at::linear(at::linear(x, lora_a_->value), lora_b_->value) * lora_scale_;
  }
  int64_t out_features() const { return weight_.value.size(0); }  // of this rank
  // The weight including the low-rank pair, [out, in].
  at::Tensor effective_weight() const {
    if (!lora_a_) return weight_.value;
    return at::addmm(weight_.value, lora_b_->value, lora_a_->value, 1, lora_scale_);
  }

 private:
  Parameter& weight_;
  Parameter *bias_, *lora_a_, *lora_b_;
  double lora_scale_;
};

}  // namespace sutor
