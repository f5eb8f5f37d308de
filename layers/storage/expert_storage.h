// The routed experts of one layer on one rank: stacked, trainable ones first. Trainable weights are
// in flat buffers (layers/optim/flat_buffer.h), frozen ones in plain tensors of the model dtype.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/TensorOptions.h>

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "csrc/ops/expert_mlp.h"
#include "layers/esft/trainable_params.h"
#include "layers/optim/flat_buffer.h"
#include "layers/storage/local_slots.h"
#include "parallel_state/model/model_info.h"
#include "parallel_state/parallel_state.h"

namespace sutor {

// Trainable experts first, in rising local id, then the frozen ones.
struct ExpertStorage : ops::ExpertWeights {
  int64_t num_experts = 0;  // global
  LocalSlots slots;         // num_local of them, copies included
};

// Builds that storage: plans it from names alone, before the flat buffers are allocated, and binds
// it to them afterwards.
class LayerExperts {
 public:
  // The flat groups of the layer's experts: of tensors that etp shards, and of those it replicates.
  struct Groups {
    FlatBuffer &sharded, &replicated;
    FlatBuffer& of(const TensorEntry& entry) const {
      return entry.split.axis == TensorSplit::Axis::kNone ? replicated : sharded;
    }
  };
  // Adds what trains of the layer to the groups. options: dtype and device of the frozen weights.
  // decay_matrices_only: see OptimOptions::decay.
  LayerExperts(const ModelInfo& model, const ParallelState& parallel, int layer,
               const TrainableSet& trainable, const Groups& groups,
               const at::TensorOptions& options, bool decay_matrices_only);
  // After the groups were allocated.
  void bind();

  ExpertStorage& storage() { return storage_; }
  // This rank's shard of an expert's tensor; undefined when the rank has no copy of the expert.
  at::Tensor local_shard(const TensorEntry& entry) const;

 private:
  struct FlatTensor {
    FlatBuffer* group = nullptr;
    size_t index = 0;
  };
  // The tensors of an expert by projection and kind: {"gate", "weight"} ...
  using Expert = std::map<std::pair<std::string, std::string_view>, const TensorEntry*>;

  FlatTensor add(const TensorEntry& entry, bool decays);
  void add_trained(const std::vector<Expert>& experts, bool decays_biases);
  ops::ExpertTensors empty_tensors(int64_t n, const at::TensorOptions& options) const;
  void bind_lora();

  const ModelInfo& model_;
  const ParallelState& parallel_;
  Groups groups_;
  ExpertStorage storage_;
  // The first tensor of each stack of the trained experts.
  FlatTensor gate_up_, down_, gate_up_bias_, down_bias_;
  // Six for each adapted expert, in the order of slots: A and B of gate, up, down.
  std::vector<FlatTensor> pairs_;
};

}  // namespace sutor
