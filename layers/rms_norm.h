// RMS norm as the Llama line of models has it: y = w * T(x / rms(x)), rounded before the weight.
#pragma once

#include "layers/parameter_store.h"

namespace sutor {

class RmsNorm {
 public:
  // weight: global name of the [cols] weight.
  RmsNorm(ParameterStore& store, const std::string& weight, double eps)
      : weight_(store.get(weight)), eps_(eps), tensor_parallel_(store.tensor_parallel()) {}
  // [..., cols], contiguous. Of a weight that tensor parallelism divides: [T, this rank's cols],
  // all ranks' together being one row; then collective over the group, forward and backward.
  at::Tensor forward(const at::Tensor& x) const;

 private:
  at::Tensor forward_divided(const at::Tensor& x) const;
  Parameter& weight_;
  double eps_;
  const TensorParallel& tensor_parallel_;
};

}  // namespace sutor
