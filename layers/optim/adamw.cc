#include "layers/optim/adamw.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>

namespace sutor {
namespace {

enum : size_t { kMaster, kExpAvg, kExpAvgSq };  // in the declaration

OptimizerState declaration() {
  return {.optimizer = "adamw",
          .kinds = {{"master", DType::kF32}, {"exp_avg", DType::kF32}, {"exp_avg_sq", DType::kF32}},
          .values = "master"};
}

}  // namespace

AdamW::AdamW(const OptimOptions& options, const std::vector<FlatBuffer*>& buffers)
    : Optimizer(declaration(), buffers), options_(options) {}

void AdamW::step_chunk(Chunk& chunk, double lr, int64_t step) {
  const at::Tensor step_count =
      at::full({}, static_cast<double>(step), chunk.buffer.options().dtype(at::kFloat));
  const auto run = [&](int64_t begin, int64_t end, double decay) {
    if (begin >= end) return;
    const auto part = [&](const at::Tensor& whole) { return whole.narrow(0, begin, end - begin); };
    std::vector<at::Tensor> masters{part(chunk.state[kMaster])};
    std::vector<at::Tensor> grads{part(chunk.buffer.chunk_grads())};
    std::vector<at::Tensor> first{part(chunk.state[kExpAvg])};
    std::vector<at::Tensor> second{part(chunk.state[kExpAvgSq])};
    std::vector<at::Tensor> steps{step_count};
    at::_fused_adamw_(masters, grads, first, second, {}, steps, lr, options_.beta1, options_.beta2,
                      decay, options_.eps, /*amsgrad=*/false, /*maximize=*/false);
  };
  const int64_t decayed = chunk.buffer.chunk_decayed();
  run(0, decayed, options_.weight_decay);
  run(decayed, chunk.buffer.chunk_size(), 0.0);
}

}  // namespace sutor
