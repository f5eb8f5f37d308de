// What accompanies the hidden states through a forward pass. Shapes: layers/README.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>

#include "layers/batch/balance_terms.h"
#include "layers/batch/packed_batch.h"

namespace sutor {

class KvCache;

struct ForwardContext {
  const PackedBatch& batch;
  // Called once for every MoE layer, in order, with the tokens that this rank routes: (global
  // layer, topk_idx int64 [T, K], the weights that multiply the expert outputs fp32 [T, K], the
  // weights before the routed scaling factor fp32 [T, K]).
  std::function<void(int, const at::Tensor&, const at::Tensor&, const at::Tensor&)> on_routing;
  // Load-balance loss of pre-training. This rank's summand of its weighted value is added to
  // balance_loss, a double scalar on the device; undefined while there is none.
  BalanceTerms balance{};
  at::Tensor balance_loss{};
  // Global layers below this one run without autograd and have no backward pass; the same on every
  // rank, since the plan decides it.
  int lowest_layer = 0;
  // Generation: the documents of the batch continue the sequences in these slots of the cache.
  KvCache* cache = nullptr;
  std::vector<int64_t> slots;
  std::shared_ptr<const ops::AttentionRuns> cached_runs{};  // their keys; set by CausalModel
  // Global layer -> fp32 [E] on the device, 1 for experts that the router may choose; null or
  // absent: all.
  const std::map<int, at::Tensor>* expert_mask = nullptr;
  int layer = 0;  // the layer that is computing, global; set by CausalModel
};

}  // namespace sutor
