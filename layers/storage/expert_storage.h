// The routed experts of one layer on one rank: stacked, trained ones first. What trains lies in
// flat buffers (layers/optim/flat_group.h), what is frozen in plain tensors of the model dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "layers/esft/trainable_params.h"
#include "layers/lora/expert_lora.h"
#include "layers/optim/flat_group.h"
#include "parallel_state/model/model_info.h"
#include "parallel_state/parallel_state.h"

namespace sutor {

// Of n experts. H hidden, I this rank's part of the experts' width.
struct ExpertTensors {
  at::Tensor gate_up, down;            // [n, 2I, H], rows gate then up; [n, H, I]
  at::Tensor gate_up_bias, down_bias;  // [n, 2I], [n, H]; undefined when the family has none
};

// Slots [0, num_trainable()) are those that something is trained of, in rising local id: all their
// weights, or the low-rank pairs beside frozen weights (never both in one training). Then the
// frozen ones.
struct ExpertStorage {
  int64_t num_experts = 0;                 // global
  int64_t num_local = 0, num_trained = 0;  // copies included; trained: whole experts
  int64_t hidden = 0, width = 0;
  bool has_biases = false;
  // Of the ranks that divide a width, one adds the bias of down: their outputs add up.
  bool adds_down_bias = false;
  std::vector<int64_t> slot_of_local;  // local number -> slot; -1 for numbers not in use
  ExpertTensors trained, frozen;       // of num_trained and num_local - num_trained experts
  ExpertTensors grads;                 // fp32, like the trained ones
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

// Puts that storage together: planned from names alone, before the flat buffers are allocated, and
// bound to them afterwards.
class LayerExperts {
 public:
  // The flat groups of the layer's experts: of what etp divides, and of what it does not.
  struct Groups {
    FlatGroup &sharded, &replicated;
    FlatGroup& of(const TensorEntry& entry) const {
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
  // What this rank has of an expert's tensor; undefined when it holds no copy of the expert.
  at::Tensor local_shard(const TensorEntry& entry) const;

 private:
  struct FlatTensor {
    FlatGroup* group = nullptr;
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
  // The first of each stack of the trained experts.
  FlatTensor gate_up_, down_, gate_up_bias_, down_bias_;
  // Of the adapted experts in the order of slots, six each: A and B of gate, up, down.
  std::vector<FlatTensor> pairs_;
};

}  // namespace sutor
