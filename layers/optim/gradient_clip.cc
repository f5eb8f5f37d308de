#include "layers/optim/gradient_clip.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "csrc/ops/cpu/row_kernels.h"

namespace sutor {
namespace {

double sum_of_squares(const at::Tensor& gradients) {
  // Blocks of fixed size, summed in order: the same bits whatever the number of threads.
  constexpr int64_t kBlock = int64_t{1} << 20;
  const int64_t count = gradients.numel();
  const int64_t blocks = (count + kBlock - 1) / kBlock;
  std::vector<double> sums(static_cast<size_t>(blocks), 0.0);
  const float* data = gradients.data_ptr<float>();
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      sums[b] = ops::sum_of_squares(data + b * kBlock, std::min(kBlock, count - b * kBlock));
    }
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

double gradient_norm(const std::vector<FlatBuffer*>& buffers, Comm& world) {
  double squares = 0;
  for (const FlatBuffer* buffer : buffers) squares += sum_of_squares(buffer->chunk_grads());
  world.all_reduce(std::span(&squares, 1), ReduceOp::kSum, "gradient norm");
  return std::sqrt(squares);
}

void clip_gradients(const std::vector<FlatBuffer*>& buffers, double norm, double limit) {
  const double factor = limit > 0 ? limit / (norm + 1e-6) : 1.0;
  if (!(factor < 1.0)) return;
  for (const FlatBuffer* buffer : buffers) buffer->chunk_grads().mul_(static_cast<float>(factor));
}

}  // namespace sutor
