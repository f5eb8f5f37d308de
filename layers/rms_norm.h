// RMS norm as the Llama line of models has it: y = w * T(x / rms(x)), rounded before the weight.
#pragma once

#include "layers/parameter_store.h"

namespace sutor {

class RmsNorm {
 public:
  // weight: global name of the [cols] weight.
  RmsNorm(ParameterStore& store, const std::string& weight, double eps)
      : weight_(store.get(weight)), eps_(eps) {}
  at::Tensor forward(const at::Tensor& x) const;  // [..., cols], contiguous

 private:
  Parameter& weight_;
  double eps_;
};

}  // namespace sutor
