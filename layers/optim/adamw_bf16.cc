#include "layers/optim/adamw_bf16.h"

#include <ATen/core/Tensor.h>

#include "csrc/base/error.h"
#include "csrc/base/hash.h"
#include "csrc/ops/adamw_bf16.h"

namespace sutor {
namespace {

enum : size_t { kWeight, kExpAvg, kExpAvgSq };  // in the declaration

OptimizerState declaration() {
  return {
      .optimizer = "adamw_bf16",
      .kinds = {{"weight", DType::kBF16}, {"exp_avg", DType::kBF16}, {"exp_avg_sq", DType::kBF16}},
      .values = "weight"};
}

}  // namespace

AdamWBf16::AdamWBf16(const OptimOptions& options, uint64_t seed,
                     const std::vector<FlatBuffer*>& buffers)
    : Optimizer(declaration(), buffers), options_(options), seed_(seed) {
  for (const FlatBuffer* buffer : buffers) SUTOR_ASSERT(buffer->dtype() == at::kBFloat16);
}

void AdamWBf16::step_chunk(Chunk& chunk, double lr, int64_t step) {
  const ops::AdamWConstants constants{.lr = lr,
                                      .beta1 = options_.beta1,
                                      .beta2 = options_.beta2,
                                      .eps = options_.eps,
                                      .weight_decay = options_.weight_decay};
  const int64_t decayed = chunk.buffer.chunk_decayed();
  std::vector<ops::AdamWBf16Run> runs;
  for (const auto& [offset, rows] : chunk.buffer.chunk_rows()) {
    const ops::RoundingStream stream{seed_, step, xxh3(rows.name).low};
    runs.push_back({.step = ops::adamw_bf16_at(constants, stream, /*decays=*/offset < decayed),
                    .offset = offset,
                    .count = rows.num_elements(),
                    .row_begin = rows.row_begin,
                    .col_begin = rows.col_begin,
                    .columns = rows.columns(),
                    .row_elements = rows.row_elements()});
  }
  ops::adamw_bf16_(runs, chunk.state[kWeight], chunk.state[kExpAvg], chunk.state[kExpAvgSq],
                   chunk.buffer.chunk_grads());
}

}  // namespace sutor
