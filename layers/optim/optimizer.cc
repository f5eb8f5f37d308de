// A new optimizer goes in here: write it beside adamw.h as a class that declares its state and
// steps one chunk, enter it in make_optimizer() below, and its name in kOptimizerNames
// (optim_options.h). Recipes, memory reports, checkpoints and exports then know it.
#include "layers/optim/optimizer.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include "csrc/base/error.h"
#include "csrc/ops/device/memory.h"
#include "layers/optim/adamw.h"
#include "layers/optim/adamw_bf16.h"

namespace sutor {

std::unique_ptr<Optimizer> make_optimizer(const OptimOptions& options, uint64_t seed,
                                          const std::vector<FlatBuffer*>& buffers) {
  if (options.name == "adamw") return std::make_unique<AdamW>(options, buffers);
  if (options.name == "adamw_bf16") return std::make_unique<AdamWBf16>(options, seed, buffers);
  internal_error(__FILE__, __LINE__, "an optimizer that kOptimizerNames lists is made here");
}

Optimizer::Optimizer(OptimizerState declared, const std::vector<FlatBuffer*>& buffers)
    : declared_(std::move(declared)) {
  const ops::MemoryScope memory(ops::MemoryItem::kOptimizer);
  for (FlatBuffer* buffer : buffers) {
    Chunk& chunk = chunks_.emplace_back(Chunk{*buffer, {}});
    for (const StateKind& kind : declared_.kinds) {
      const auto options = buffer->options().dtype(torch_dtype(kind.dtype));
      chunk.state.push_back(in_compute_copies(kind, *buffer)
                                ? buffer->chunk_values()
                                : at::zeros({buffer->chunk_size()}, options));
      if (kind.name == declared_.values) chunk.state.back().copy_(buffer->chunk_values());
    }
  }
}

bool Optimizer::in_compute_copies(const StateKind& kind, const FlatBuffer& buffer) const {
  return kind.name == declared_.values && torch_dtype(kind.dtype) == buffer.dtype();
}

const at::Tensor& Optimizer::values_of(const Chunk& chunk) const {
  return chunk.state[declared_.index_of(declared_.values)];
}

void Optimizer::step(double lr, int64_t step) {
  for (Chunk& chunk : chunks_) step_chunk(chunk, lr, step);
  state_restored();
}

void Optimizer::state_restored() {
  for (Chunk& chunk : chunks_) {
    if (in_compute_copies(declared_.values_kind(), chunk.buffer)) continue;
    chunk.buffer.chunk_values().copy_(values_of(chunk));
  }
}

std::vector<ShardValues> Optimizer::state(std::string_view kind) {
  const size_t index = declared_.index_of(kind);
  std::vector<ShardValues> all;
  for (Chunk& chunk : chunks_) {
    for (FlatBuffer::ChunkRows& rows : chunk.buffer.chunk_rows()) {
      const int64_t count = rows.rows.num_elements();
      all.push_back(
          shard_values(std::move(rows.rows), chunk.state[index].narrow(0, rows.offset, count)));
    }
  }
  return all;
}

void Optimizer::visit_values(const std::function<void(const ShardValues&)>& visit) const {
  for (const Chunk& chunk : chunks_) {
    const FlatBuffer& buffer = chunk.buffer;
    const at::Tensor all = buffer.gather(values_of(chunk).to(at::kFloat));
    for (size_t index = 0; index < buffer.size(); ++index) {
      visit(shard_values(buffer.shard(index), buffer.slice(all, index)));
    }
  }
}

int64_t Optimizer::bytes() const {
  int64_t total = 0;
  for (const Chunk& chunk : chunks_) {
    for (size_t i = 0; i < declared_.kinds.size(); ++i) {
      if (in_compute_copies(declared_.kinds[i], chunk.buffer)) continue;
      total += static_cast<int64_t>(chunk.state[i].nbytes());
    }
  }
  return total;
}

}  // namespace sutor
