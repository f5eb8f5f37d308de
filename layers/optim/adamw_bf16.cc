#include "layers/optim/adamw_bf16.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>

#include "csrc/base/error.h"
#include "csrc/base/hash.h"
#include "csrc/ops/cpu/adamw_bf16_kernel.h"
#include "csrc/ops/cpu/torch_ops.h"

namespace sutor {
namespace {

enum : size_t { kWeight, kExpAvg, kExpAvgSq };  // in the declaration

constexpr int64_t kBlock = int64_t{1} << 16;  // elements that a thread steps at a time

OptimizerState declaration() {
  return {
      .optimizer = "adamw_bf16",
      .kinds = {{"weight", DType::kBF16}, {"exp_avg", DType::kBF16}, {"exp_avg_sq", DType::kBF16}},
      .values = "weight"};
}

// Consecutive elements of one tensor in the chunk, for one thread.
struct Block {
  ops::AdamWBf16Step step;
  const ShardedTensor* rows = nullptr;
  int64_t offset = 0;  // of the tensor's first element in the chunk
  int64_t begin = 0, end = 0;
};

void step_block(const Block& block, ops::BFloat* weight, ops::BFloat* exp_avg,
                ops::BFloat* exp_avg_sq, const float* grad) {
  const ShardedTensor& rows = *block.rows;
  const int64_t width = rows.has_whole_rows() ? rows.num_elements() : rows.columns();
  for (int64_t at = block.begin, end; at < block.end; at = end) {
    end = std::min(block.end, (at / width + 1) * width);
    const int64_t row = rows.row_begin + at / rows.columns();
    const int64_t first = row * rows.row_elements() + rows.col_begin + at % rows.columns();
    const int64_t o = block.offset + at;
    ops::adamw_bf16_step(block.step, static_cast<uint64_t>(first), weight + o, exp_avg + o,
                         exp_avg_sq + o, grad + o, end - at);
  }
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
  const std::vector<FlatBuffer::ChunkRows> chunk_rows = chunk.buffer.chunk_rows();
  const int64_t decayed = chunk.buffer.chunk_decayed();
  std::vector<Block> blocks;
  for (const auto& [offset, rows] : chunk_rows) {
    const ops::RoundingStream stream{seed_, step, xxh3(rows.name).low};
    const auto block_step = ops::adamw_bf16_at(constants, stream, /*decays=*/offset < decayed);
    for (int64_t begin = 0; begin < rows.num_elements(); begin += kBlock) {
      const int64_t end = std::min(begin + kBlock, rows.num_elements());
      blocks.push_back({block_step, &rows, offset, begin, end});
    }
  }
  auto* weight = ops::data<ops::BFloat>(chunk.state[kWeight]);
  auto* exp_avg = ops::data<ops::BFloat>(chunk.state[kExpAvg]);
  auto* exp_avg_sq = ops::data<ops::BFloat>(chunk.state[kExpAvgSq]);
  const float* grad = chunk.buffer.chunk_grads().data_ptr<float>();
  at::parallel_for(0, static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      step_block(blocks[static_cast<size_t>(b)], weight, exp_avg, exp_avg_sq, grad);
    }
  });
}

}  // namespace sutor
