#include "csrc/ops/adamw_bf16.h"

#include "csrc/ops/cpu/adamw_bf16_kernel.h"
#include "csrc/ops/cpu/torch_ops.h"

namespace sutor::ops::cpu {
namespace {

constexpr int64_t kBlock = int64_t{1} << 16;  // elements that a thread steps at a time

// Elements [begin, end) of a run, for one thread.
struct Block {
  const AdamWBf16Run* run = nullptr;
  int64_t begin = 0, end = 0;
};

void step_block(const Block& block, BFloat* weight, BFloat* exp_avg, BFloat* exp_avg_sq,
                const float* grad) {
  const AdamWBf16Run& run = *block.run;
  // Elements whose indices follow each other: a row, or all of them when rows are whole.
  const int64_t width = run.columns == run.row_elements ? run.count : run.columns;
  for (int64_t at = block.begin, end; at < block.end; at = end) {
    end = std::min(block.end, (at / width + 1) * width);
    const int64_t row = run.row_begin + at / run.columns;
    const int64_t first = row * run.row_elements + run.col_begin + at % run.columns;
    const int64_t o = run.offset + at;
    adamw_bf16_step(run.step, static_cast<uint64_t>(first), weight + o, exp_avg + o, exp_avg_sq + o,
                    grad + o, end - at);
  }
}

}  // namespace

void adamw_bf16_(std::span<const AdamWBf16Run> runs, const at::Tensor& weight,
                 const at::Tensor& exp_avg, const at::Tensor& exp_avg_sq, const at::Tensor& grad) {
  if (weight.is_meta()) return;
  std::vector<Block> blocks;
  for (const AdamWBf16Run& run : runs) {
    for (int64_t begin = 0; begin < run.count; begin += kBlock) {
      blocks.push_back({&run, begin, std::min(begin + kBlock, run.count)});
    }
  }
  parallel(static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      step_block(blocks[static_cast<size_t>(b)], data<BFloat>(weight), data<BFloat>(exp_avg),
                 data<BFloat>(exp_avg_sq), grad.data_ptr<float>());
    }
  });
}

}  // namespace sutor::ops::cpu
