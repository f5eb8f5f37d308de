// The routed experts of one layer on one rank: stacked, trainable ones first. Trainable weights are
// in flat buffers (layers/optim/flat_buffer.h), frozen ones in plain tensors of the model dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "layers/esft/trainable_params.h"
#include "csrc/ops/expert_lora.h"
#include "layers/optim/flat_buffer.h"
#include "parallel_state/model/model_info.h"
#include "parallel_state/parallel_state.h"

namespace sutor {

// The tensors of n experts.
struct ExpertTensors {
  at::Tensor gate_up, down;            // [n, 2I, H], rows gate then up; [n, H, I]
  at::Tensor gate_up_bias, down_bias;  // [n, 2I], [n, H]; undefined when the family has none
};

// Slots [0, num_trainable()) are trainable, in rising local id: all weights of the expert, or the
// low-rank pairs beside its frozen weights (never both in one training). Frozen experts follow.
struct ExpertStorage {
  int64_t num_experts = 0;  // global
  int64_t num_local = 0;    // on this rank, copies included
  int64_t num_trained = 0;  // of them, those all of whose weights train
  int64_t hidden = 0, width = 0;
  bool has_biases = false;
  // The ranks that share a width compute partial sums: one of them adds the bias of down.
  bool adds_down_bias = false;
  std::vector<int64_t> slot_of_local;  // local id -> slot; -1 for ids not in use
  ExpertTensors trained, frozen;       // of num_trained and num_local - num_trained experts
  ExpertTensors grads;                 // fp32, shaped as the trained ones
  std::vector<ExpertLora> lora;        // of slots [0, lora.size()); then num_trained is 0

  int64_t num_trainable() const { return num_trained + static_cast<int64_t>(lora.size()); }

  at::Tensor gate_up(int64_t slot) const { return of(&ExpertTensors::gate_up, slot); }
  at::Tensor down(int64_t slot) const { return of(&ExpertTensors::down, slot); }
  at::Tensor gate_up_bias(int64_t slot) const { return of(&ExpertTensors::gate_up_bias, slot); }
  at::Tensor down_bias(int64_t slot) const { return of(&ExpertTensors::down_bias, slot); }

 private:
  at::Tensor of(at::Tensor ExpertTensors::*member, int64_t slot) const {
    return slot < num_trained ? (trained.*member)[slot] : (frozen.*member)[slot - num_trained];
  }
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
  // Adds what trains of the layer to the groups. decay_matrices_only: see OptimOptions::decay.
  LayerExperts(const ModelInfo& model, const ParallelState& parallel, int layer,
               const TrainableSet& trainable, const Groups& groups, at::ScalarType dtype,
               bool decay_matrices_only);
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
  ExpertTensors empty_tensors(int64_t n, at::ScalarType dtype) const;
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
