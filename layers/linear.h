// y = x W^T (+ b). A frozen weight keeps no input for the backward pass; autograd sees to that.
#pragma once

#include <torch/types.h>

#include "layers/parameter_store.h"

namespace sutor {

class Linear {
 public:
  // name: global name without ".weight"; the bias is used when the model has one.
  Linear(ParameterStore& store, const std::string& name)
      : weight_(store.get(name + ".weight")), bias_(store.find(name + ".bias")) {}

  at::Tensor forward(const at::Tensor& x) const {  // [..., in] -> [..., out]
    return bias_ ? at::linear(x, weight_.value, bias_->value) : at::linear(x, weight_.value);
  }
  // What x is multiplied with in the end, [out, in].
  at::Tensor effective_weight() const { return weight_.value; }

 private:
  Parameter& weight_;
  Parameter* bias_;
};

}  // namespace sutor
