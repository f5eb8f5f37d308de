// All parameters that a rank holds: storage first, blocks second. What trains lives in flat buffers
// (layers/optim/flat_group.h), what is frozen in plain tensors of the model dtype; routed experts
// are stacked, trained ones first. Built from names alone, before any block exists.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "layers/lora/expert_lora.h"
#include "layers/optim/flat_group.h"
#include "parallel_state/expert_placement.h"
#include "parallel_state/model_info.h"
#include "parallel_state/parallel_state.h"
#include "parallel_state/sharded_tensor.h"

namespace sutor {

struct Parameter {
  std::string name;
  at::Tensor value;      // model dtype; requires grad when trained
  at::Tensor main_grad;  // fp32, same shape, a view into the flat gradient; undefined when frozen
  bool trains() const { return main_grad.defined(); }
};

// The routed experts of one layer on this rank. Slots [0, num_tuned()) are those that something is
// trained of, in rising local id: all their weights, or the low-rank pairs beside frozen weights
// (never both in one training). Then the frozen ones. H hidden, I expert width.
struct ExpertStorage {
  int64_t num_experts = 0;                 // global
  int64_t num_local = 0, num_trained = 0;  // trained: whole experts
  int64_t hidden = 0, width = 0;
  std::vector<int64_t> slot_of_local;        // local_expert_id -> slot
  at::Tensor trained_gate_up, trained_down;  // [num_trained, 2I, H], [num_trained, H, I]
  at::Tensor frozen_gate_up, frozen_down;    // [num_local - num_trained, ...]
  at::Tensor grad_gate_up, grad_down;        // fp32, like the trained ones
  std::vector<ExpertLora> lora;              // of slots [0, lora.size()); then num_trained is 0

  int64_t num_tuned() const { return num_trained + static_cast<int64_t>(lora.size()); }

  at::Tensor gate_up(int64_t slot) const;  // [2I, H], rows gate then up
  at::Tensor down(int64_t slot) const;     // [H, I]
};

class ParameterStore {
 public:
  // trained: global names that train (parallel_state-wide set; this rank holds some of them).
  // dtype: of frozen weights and of computing. decay_matrices_only: see OptimOptions::decay.
  ParameterStore(const ModelInfo& model, const std::vector<std::string>& trained,
                 const ParallelState& parallel, at::ScalarType dtype, bool decay_matrices_only);

  const ModelInfo& model() const { return model_; }
  const ParallelState& parallel() const { return parallel_; }
  at::ScalarType dtype() const { return dtype_; }

  // Dense (not routed) parameters by global name; find() returns nullptr when there is none.
  Parameter& get(const std::string& name);
  Parameter* find(const std::string& name);
  ExpertStorage& experts(int layer) { return experts_.at(layer); }

  // Trained parameters: replicated over all data-parallel ranks, or over the expert-parallel
  // replicas.
  FlatGroup& dense_group() { return dense_group_; }
  FlatGroup& expert_group() { return expert_group_; }

  // Every tensor of the model that this rank holds, as it is in memory: to be filled by a loader.
  std::vector<ShardedTensor> tensors();
  // The low-rank pairs of this rank.
  std::vector<ShardedTensor> lora_tensors();
  // Of tensors(), those that do not train here.
  std::vector<ShardedTensor> frozen_tensors();
  // Moves the gradients that autograd left at the dense parameters of a layer (-1: outside of
  // layers) into main_grad.
  void collect_gradients(int layer);
  // After the weights were loaded or stepped: fp32 masters from the compute copies.
  void masters_from_values();

 private:
  void add_experts(int layer, const std::unordered_map<std::string, bool>& trains);
  void bind_experts();
  void bind_lora(int layer, ExpertStorage& storage);

  const ModelInfo& model_;
  const ParallelState& parallel_;
  at::ScalarType dtype_;
  FlatGroup dense_group_, expert_group_;
  std::vector<std::unique_ptr<Parameter>> dense_;
  std::unordered_map<std::string, Parameter*> by_name_;
  std::multimap<int, Parameter*> trained_dense_by_layer_;
  std::map<int, ExpertStorage> experts_;
  std::map<int, std::pair<size_t, size_t>> expert_flat_;  // layer -> first index of gate_up, down
  // layer -> index of the first of an expert's six tensors, in the order of slots: A and B of gate,
  // up, down.
  std::map<int, std::vector<size_t>> lora_flat_;
};

// The torch dtype of a DType and back (F32, BF16, F16 only).
at::ScalarType torch_dtype(DType dtype);
DType disk_dtype(at::ScalarType dtype);

}  // namespace sutor
