#include "csrc/ops/exact_sum.h"

#include <ATen/ops/empty.h>
#include <numeric>

#include "csrc/ops/cpu/torch_ops.h"

namespace sutor::ops::cpu {
namespace {

at::Tensor scalar(double value, const at::Tensor& like) {
  at::Tensor result = at::empty({}, like.options().dtype(at::kDouble));
  *result.data_ptr<double>() = value;
  return result;
}

}  // namespace

at::Tensor sum_in_order(const at::Tensor& x) {
  if (x.is_meta()) return at::empty({}, x.options().dtype(at::kDouble));
  const float* values = x.data_ptr<float>();
  return scalar(std::accumulate(values, values + x.numel(), 0.0), x);
}

at::Tensor sum_of_squares(const at::Tensor& x) {
  if (x.is_meta()) return at::empty({}, x.options().dtype(at::kDouble));
  // Blocks of fixed size, summed in order: the same bits whatever the number of threads.
  constexpr int64_t kBlock = int64_t{1} << 20;
  const int64_t count = x.numel(), blocks = (count + kBlock - 1) / kBlock;
  std::vector<double> sums(static_cast<size_t>(blocks), 0.0);
  const float* values = x.data_ptr<float>();
  parallel(blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      sums[b] = ops::sum_of_squares(values + b * kBlock, std::min(kBlock, count - b * kBlock));
    }
  });
  return scalar(std::accumulate(sums.begin(), sums.end(), 0.0), x);
}

}  // namespace sutor::ops::cpu
