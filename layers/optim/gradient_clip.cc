#include "layers/optim/gradient_clip.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "csrc/ops/exact_sum.h"

namespace sutor {

at::Tensor squared_gradients(const std::vector<FlatBuffer*>& buffers) {
  at::Tensor squares =
      at::zeros({}, buffers.front()->options().dtype(at::kDouble));  // a store always has buffers
  for (const FlatBuffer* buffer : buffers) squares += ops::sum_of_squares(buffer->chunk_grads());
  return squares;
}

double gradient_norm(double squares, Comm& world) {
  world.all_reduce(std::span(&squares, 1), ReduceOp::kSum, "gradient norm");
  return std::sqrt(squares);
}

void clip_gradients(const std::vector<FlatBuffer*>& buffers, double norm, double limit) {
  const double factor = limit > 0 ? limit / (norm + 1e-6) : 1.0;
  if (!(factor < 1.0)) return;
  for (const FlatBuffer* buffer : buffers) buffer->chunk_grads().mul_(static_cast<float>(factor));
}

}  // namespace sutor
