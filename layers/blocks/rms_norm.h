// RMS norm: y = w * x / rms(x).
#pragma once

#include "layers/storage/parameter_store.h"

namespace sutor {

struct NormOptions {
  double eps = 1e-6;
  // x / rms(x) is rounded to the model's dtype before it meets the weight, as in the Llama line of
  // models, or after it.
  bool round_before_weight = true;
};

class RmsNorm {
 public:
  // weight: global name of the [cols] weight.
  RmsNorm(ParameterStore& store, const std::string& weight, const NormOptions& options)
      : weight_(store.get(weight)), options_(options), tensor_parallel_(store.tensor_parallel()) {}
  // [..., cols], contiguous. Of a weight that tensor parallelism divides: [T, this rank's cols],
  // all ranks' together being one row; then collective over the group, forward and backward.
  at::Tensor forward(const at::Tensor& x) const;

 private:
  at::Tensor forward_sharded(const at::Tensor& x) const;
  Parameter& weight_;
  NormOptions options_;
  const TensorParallel& tensor_parallel_;
};

}  // namespace sutor
