// By torch's scatter: integers add up to the same in any order.
#include "csrc/ops/number_counts.h"

#include <torch/types.h>

namespace sutor::ops::cuda {

at::Tensor number_counts(const at::Tensor& number, int64_t count) {
  const at::Tensor flat = number.reshape({-1});
  return at::zeros({count}, number.options()).scatter_add_(0, flat, at::ones_like(flat));
}

}  // namespace sutor::ops::cuda
