// What travels beside the hidden states through a forward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>

#include "layers/batch/packed_batch.h"

namespace sutor {

class KvCache;

struct ForwardContext {
  const PackedBatch& batch;
  // Called once an MoE layer, in order: (global layer, topk_idx int64 [T, K], weights as multiplied
  // with the expert outputs fp32 [T, K], weights before the routed scaling factor fp32 [T, K]), of
  // the tokens that this rank routes.
  std::function<void(int, const at::Tensor&, const at::Tensor&, const at::Tensor&)> on_routing;
  // Load-balance loss of pre-training: the weight of this micro-batch's term (recipe's balance_loss
  // over the number of micro-batches of the step), 0 = none. This rank's part of its value is added
  // to balance_loss.
  double balance_weight = 0;
  double balance_loss = 0;
  // Global layers below this run without autograd and take no part in the backward pass; the same
  // on every rank, since it comes from the plan.
  int lowest_layer = 0;
  // Generation: the documents of the batch go on with the sequences in these slots of the cache.
  KvCache* cache = nullptr;
  std::vector<int64_t> slots;
  // Global layer -> fp32 [experts], 1 for those that the router may choose; null or absent: all.
  const std::map<int, at::Tensor>* expert_mask = nullptr;
  int layer = 0;  // the layer at work, global; set by CausalModel
};

}  // namespace sutor
