#include "csrc/ops/number_counts.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

namespace sutor::ops::cpu {

at::Tensor number_counts(const at::Tensor& number, int64_t count) {
  at::Tensor counts = at::zeros({count}, number.options());
  if (number.is_meta()) return counts;
  const at::Tensor flat = number.contiguous();
  const int64_t* numbers = flat.data_ptr<int64_t>();
  int64_t* to = counts.data_ptr<int64_t>();
  for (int64_t i = 0; i < flat.numel(); ++i) ++to[numbers[i]];
  return counts;
}

}  // namespace sutor::ops::cpu
