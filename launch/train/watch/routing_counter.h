// Counts on the device, without a copy to the host while layers run, what the routers of this rank
// choose in a training step.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "csrc/comm/comm.h"
#include "layers/esft/expert_scores.h"
#include "parallel_state/model/model_info.h"

namespace sutor {

class RoutingCounter {
 public:
  RoutingCounter(const ModelInfo& model, at::Device device);

  // topk_idx: int64 [T, K], the choices of tokens that this rank alone routes at global layer
  // `layer`; unscaled: fp32 [T, K], their weights before the routed scaling factor.
  void add(int layer, const at::Tensor& topk_idx, const at::Tensor& unscaled);

  // The counts of all ranks since the last call, the same on each, and begins anew: one all-reduce
  // of (2 E + 1) integers a layer. Integers: equal at every layout. Collective over `world`.
  ExpertScores take(Comm& world);

 private:
  ExpertScores scores_;          // empty; has the shape
  at::Tensor values_;            // int64 [layers, 2 E + 1], as ExpertScores::flat()
  std::vector<int64_t> tokens_;  // of each layer
};

}  // namespace sutor
