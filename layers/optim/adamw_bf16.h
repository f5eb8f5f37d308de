// AdamW without fp32 masters: weights and both moments in bf16, each rounded at random to one of
// its two neighbours so that the mean is exact. 6 bytes a parameter, 2 of them the compute copy.
// Rounding to nearest would lose every update below half a unit of the last of 8 bits, and would
// hold exp_avg_sq for ever where 1 - beta2 is below 2^-9.
//
// Where a value goes depends on nothing but the recipe's seed, the step, the tensor's name, the
// element's global index and the value: from equal gradients every layout, number of threads and
// resumption makes the same bits. Gradients of several replicas are summed in fp32 in an order that
// depends on their number; a last bit that differs there may turn a rounding to the other
// neighbour.
#pragma once

#include <vector>

#include "layers/optim/optimizer.h"

namespace sutor {

class AdamWBf16 : public Optimizer {
 public:
  // The buffers must be of bf16.
  AdamWBf16(const OptimOptions& options, uint64_t seed, const std::vector<FlatBuffer*>& buffers);

 private:
  void step_chunk(Chunk& chunk, double lr, int64_t step) override;

  OptimOptions options_;
  uint64_t seed_;
};

}  // namespace sutor
