// AdamW with decoupled weight decay on fp32 masters: 12 bytes a parameter beside the compute copy,
// 8 in an fp32 model, whose compute copies are the masters.
#pragma once

#include <vector>

#include "layers/optim/optimizer.h"

namespace sutor {

class AdamW : public Optimizer {
 public:
  AdamW(const OptimOptions& options, const std::vector<FlatBuffer*>& buffers);

 private:
  void step_chunk(Chunk& chunk, double lr, int64_t step) override;

  OptimOptions options_;
};

}  // namespace sutor
