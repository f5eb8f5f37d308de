#include "layers/storage/expert_storage.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "csrc/base/error.h"
#include "csrc/base/index_range.h"
#include "csrc/ops/shapes/planned_routing.h"
#include "parallel_state/placement/tensor_shard.h"

namespace sutor {

LayerExperts::LayerExperts(const ModelInfo& model, const ParallelState& parallel, int layer,
                           const TrainableSet& trainable, const Groups& groups,
                           const at::TensorOptions& options, bool decay_matrices_only)
    : model_(model), parallel_(parallel), groups_(groups) {
  const RankLayout& layout = parallel.layout();
  const RankCoordinates& at = parallel.coordinates();
  const ExpertPlacement& placement = parallel.placement();
  const std::vector<int> local_ids = placement.local_experts(layer, at.ep);
  storage_.num_experts = model.num_experts;
  storage_.num_local = static_cast<int64_t>(local_ids.size());
  storage_.hidden = model.hidden_size;
  storage_.width = spread_range(model.expert_width, at.etp, layout.etp()).size();
  storage_.adds_down_bias = at.etp == 0;
  std::vector<Expert> experts(local_ids.size());
  std::vector<std::vector<const TensorEntry*>> pairs(local_ids.size());
  for (const TensorEntry& entry : model.tensors.entries()) {
    if (entry.expert < 0 || entry.layer != layer) continue;
    const auto found = std::find(local_ids.begin(), local_ids.end(), entry.expert);
    if (found == local_ids.end()) continue;
    const auto local = static_cast<size_t>(found - local_ids.begin());
    if (entry.role == TensorRole::kLora) {
      pairs[local].push_back(&entry);  // A and B of gate, of up, of down
    } else {
      experts[local][{entry.projection, entry.kind()}] = &entry;
    }
  }
  storage_.has_biases = !experts.empty() && experts[0].count({"down", "bias"}) > 0;
  std::vector<size_t> trained, adapted, rest;
  for (size_t local = 0; local < local_ids.size(); ++local) {
    const bool is_trained = trainable.contains(experts[local].at({"gate", "weight"})->name);
    (is_trained ? trained : pairs[local].empty() ? rest : adapted).push_back(local);
  }
  SUTOR_ASSERT(trained.empty() || adapted.empty());
  for (const auto* trainable : {&trained, &adapted}) {  // only frozen experts have copies
    SUTOR_ASSERT(trainable->empty() ||
                 trainable->back() < static_cast<size_t>(placement.num_local_experts()));
  }
  storage_.num_trained = static_cast<int64_t>(trained.size());
  storage_.lora.resize(adapted.size());
  std::vector<int64_t> slot_of_local(static_cast<size_t>(placement.local_numbers()), -1);
  int64_t slot = 0;
  for (const auto* locals : {&trained, &adapted, &rest}) {
    for (const size_t local : *locals) slot_of_local[local] = slot++;
  }
  storage_.slots = LocalSlots(std::move(slot_of_local), ops::table_device(options.device()));
  std::vector<Expert> tensors;
  for (const size_t local : trained) tensors.push_back(experts[local]);
  add_trained(tensors, !decay_matrices_only);
  for (const size_t local : adapted) {
    for (const TensorEntry* entry : pairs[local]) pairs_.push_back(add(*entry, true));
  }
  storage_.frozen = empty_tensors(storage_.num_local - storage_.num_trained, options);
  if (trained.empty()) storage_.trained = empty_tensors(0, options);
}

LayerExperts::FlatTensor LayerExperts::add(const TensorEntry& entry, bool decays) {
  FlatBuffer& group = groups_.of(entry);
  const TensorShard shard = shard_of(entry, parallel_.coordinates().etp, parallel_.layout().etp());
  return {&group, group.add(entry.name, shard, decays)};
}

// Adds gate and up of every expert, then down of every expert, then the biases in the same order,
// so that each stack is contiguous.
void LayerExperts::add_trained(const std::vector<Expert>& experts, bool decays_biases) {
  const auto add_stack = [&](std::initializer_list<const char*> projections, const char* kind,
                             bool decays) {
    FlatTensor first;
    for (const Expert& expert : experts) {
      for (const char* projection : projections) {
        const FlatTensor flat = add(*expert.at({projection, kind}), decays);
        if (first.group == nullptr) first = flat;
      }
    }
    return first;
  };
  gate_up_ = add_stack({"gate", "up"}, "weight", true);
  down_ = add_stack({"down"}, "weight", true);
  if (!storage_.has_biases) return;
  gate_up_bias_ = add_stack({"gate", "up"}, "bias", decays_biases);
  down_bias_ = add_stack({"down"}, "bias", decays_biases);
}

ops::ExpertTensors LayerExperts::empty_tensors(int64_t n, const at::TensorOptions& options) const {
  const int64_t h = storage_.hidden, w = storage_.width;
  ops::ExpertTensors tensors{.gate_up = at::empty({n, 2 * w, h}, options),
                             .down = at::empty({n, h, w}, options)};
  if (!storage_.has_biases) return tensors;
  tensors.gate_up_bias = at::empty({n, 2 * w}, options);
  tensors.down_bias = at::empty({n, h}, options);
  return tensors;
}

void LayerExperts::bind() {
  bind_lora();
  const int64_t n = storage_.num_trained, h = storage_.hidden, w = storage_.width;
  if (n == 0) return;
  const auto bind = [&](at::Tensor ops::ExpertTensors::*member, const FlatTensor& first,
                        const std::vector<int64_t>& shape) {
    storage_.trained.*member = first.group->values_from(first.index, shape);
    storage_.grads.*member = first.group->grads_from(first.index, shape);
  };
  bind(&ops::ExpertTensors::gate_up, gate_up_, {n, 2 * w, h});
  bind(&ops::ExpertTensors::down, down_, {n, h, w});
  if (!storage_.has_biases) return;
  bind(&ops::ExpertTensors::gate_up_bias, gate_up_bias_, {n, 2 * w});
  bind(&ops::ExpertTensors::down_bias, down_bias_, {n, h});
}

void LayerExperts::bind_lora() {
  const FlatTensor* flat = pairs_.data();
  for (ops::ExpertLora& lora : storage_.lora) {
    lora.scale = model_.lora_scale;
    for (ops::LoraPair* pair : {&lora.gate, &lora.up, &lora.down}) {
      pair->a = flat->group->value(flat->index);
      pair->grad_a = flat->group->grad(flat->index);
      ++flat;
      pair->b = flat->group->value(flat->index);
      pair->grad_b = flat->group->grad(flat->index);
      ++flat;
    }
  }
}

at::Tensor LayerExperts::local_shard(const TensorEntry& entry) const {
  const ExpertPlacement& placement = parallel_.placement();
  const int ep_rank = parallel_.coordinates().ep;
  const bool owned = placement.ep_rank_of(entry.layer, entry.expert) == ep_rank;
  if (!owned && !placement.is_replicated(entry.layer, entry.expert)) return {};
  const int64_t slot = storage_.slots[placement.local_id_on(entry.layer, entry.expert, ep_rank)];
  const bool bias = entry.kind() == "bias";
  if (entry.projection == "down") return bias ? storage_.down_bias(slot) : storage_.down(slot);
  const at::Tensor both = bias ? storage_.gate_up_bias(slot) : storage_.gate_up(slot);
  return both.narrow(0, entry.projection == "up" ? storage_.width : 0, storage_.width);
}

}  // namespace sutor
