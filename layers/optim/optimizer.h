// An optimizer: state tensors of its own for this rank's chunk of every flat buffer, and the step
// that moves the weights. It declares its state (OptimizerState); memory reports count that and
// checkpoints store it, so that neither knows which optimizers there are.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "layers/optim/flat_buffer.h"
#include "layers/optim/optim_options.h"
#include "layers/shards/shard_values.h"
#include "parallel_state/model/optimizer_state.h"

namespace sutor {

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  const OptimizerState& declared() const { return declared_; }

  // Steps this rank's chunks by their gradients, which are reduced and clipped. `step` counts from
  // 1. The other replicas' chunks come by FlatBuffer::gather_values().
  void step(double lr, int64_t step);

  // This rank's rows of a declared kind, over the optimizer's memory: to be saved, or to be filled.
  std::vector<ShardValues> state(std::string_view kind);
  // After the state was filled: the compute copies of this rank's chunks follow it.
  void state_restored();

  // Gives the trained values of every shard of this rank, all chunks of it, in fp32, exact. Buffer
  // after buffer, so that those of one are in memory at a time. Collective.
  void visit_values(const std::function<void(const ShardValues&)>& visit) const;

  // Of the state on this rank, without what lies in the compute copies.
  int64_t bytes() const;

 protected:
  // One tensor for each declared kind, in order, [chunk_size()]. The kind that holds the values is
  // the compute copies of the chunk themselves when it has their dtype; else it starts from them.
  // The others start at zero.
  struct Chunk {
    FlatBuffer& buffer;
    std::vector<at::Tensor> state;
  };

  // The weights must be in the buffers, which must outlive the optimizer.
  Optimizer(OptimizerState declared, const std::vector<FlatBuffer*>& buffers);

 private:
  virtual void step_chunk(Chunk& chunk, double lr, int64_t step) = 0;
  const at::Tensor& values_of(const Chunk& chunk) const;
  bool in_compute_copies(const StateKind& kind, const FlatBuffer& buffer) const;

  OptimizerState declared_;
  std::vector<Chunk> chunks_;
};

// The optimizer that `options.name` names. `seed`: of an optimizer that rounds at random. The
// weights must be in the buffers.
std::unique_ptr<Optimizer> make_optimizer(const OptimOptions& options, uint64_t seed,
                                          const std::vector<FlatBuffer*>& buffers);

}  // namespace sutor
