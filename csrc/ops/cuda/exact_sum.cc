#include "csrc/ops/exact_sum.h"

#include "csrc/ops/cuda/kernels/exact_sum.h"
#include "csrc/ops/cuda/tensors.h"

namespace sutor::ops::cuda {
namespace {

at::Tensor sum_of(const at::Tensor& x, bool squares) {
  const auto options = x.options().dtype(at::kDouble);
  const at::Tensor partial = at::empty({num_partial_sums(x.numel())}, options);
  at::Tensor total = at::empty({}, options);
  on_stream([&](cudaStream_t stream) {
    launch_sum(data<float>(x), x.numel(), squares, data<double>(partial), data<double>(total),
               stream);
  });
  return total;
}

}  // namespace

at::Tensor sum_in_order(const at::Tensor& x) { return sum_of(x, false); }

at::Tensor sum_of_squares(const at::Tensor& x) { return sum_of(x, true); }

}  // namespace sutor::ops::cuda
