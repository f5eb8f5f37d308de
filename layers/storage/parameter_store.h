// All parameters that a rank holds: storage first, blocks second. What trains lives in flat buffers
// (layers/optim/flat_group.h), what is frozen in plain tensors of the model dtype; routed experts
// are stacked (expert_storage.h). Built from names alone, before any block exists.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "layers/esft/trainable_params.h"
#include "layers/optim/flat_group.h"
#include "layers/parallel/tensor_parallel.h"
#include "layers/storage/expert_storage.h"
#include "parallel_state/model/model_info.h"
#include "parallel_state/model/sharded_tensor.h"
#include "parallel_state/parallel_state.h"
#include "parallel_state/placement/expert_placement.h"

namespace sutor {

// What this rank has of a tensor that is not a routed expert's.
struct Parameter {
  std::string name;
  std::vector<int64_t> global_shape;
  TensorSplit split;     // how it is divided; none when tp is 1
  at::Tensor value;      // model dtype (a correction bias: fp32); requires grad when trained
  at::Tensor main_grad;  // fp32, same shape, a view into the flat gradient; undefined when frozen
  // 1 over the number of ranks that compute the same gradient, each the whole of it: reduction adds
  // over all of them.
  double grad_scale = 1;
  bool trains() const { return main_grad.defined(); }
};

// Trained elements of the layers that a bucket takes in, over all their experts, before it is full:
// enough for a reduction at full speed, few enough that most of them run beside the backward pass.
inline constexpr int64_t kBucketElements = int64_t{1} << 25;

class ParameterStore {
 public:
  // model, trainable and parallel must outlive the store. dtype: of frozen weights and of
  // computing. decay_matrices_only: see OptimOptions::decay.
  ParameterStore(const ModelInfo& model, const TrainableSet& trainable,
                 const ParallelState& parallel, at::ScalarType dtype, bool decay_matrices_only,
                 int64_t bucket_elements = kBucketElements);

  const ModelInfo& model() const { return model_; }
  const TrainableSet& trainable() const { return trainable_; }
  const ParallelState& parallel() const { return parallel_; }
  const TensorParallel& tensor_parallel() const { return tensor_parallel_; }
  at::ScalarType dtype() const { return dtype_; }
  // The layers of this rank's stage, in order.
  const std::vector<int>& layers() const { return layers_; }

  // Dense (not routed) parameters by global name; find() returns nullptr when there is none here.
  Parameter& get(const std::string& name);
  Parameter* find(const std::string& name);
  ExpertStorage& experts(int layer) { return experts_.at(layer).storage(); }

  // What trains, in buckets of layers from the top down, and in each by the ranks that hold copies
  // of it. All ranks of a stage have the same groups in the same order, some of them empty.
  std::vector<FlatGroup*> groups();
  // Reduction of gradients while the backward pass goes on. The layer's are complete, and so are
  // those of the layers above: where a bucket ends, its reduction begins. Collective over the
  // stage, for every layer that has a backward pass.
  void layer_complete(int layer);
  // All gradients are complete: reduces the rest, and waits. Collective over all ranks.
  void finish_reductions();

  // Every tensor of the model that this rank holds, as it is in memory: to be filled by a loader.
  std::vector<ShardedTensor> tensors();
  // The low-rank pairs of this rank.
  std::vector<ShardedTensor> lora_tensors();
  // Of tensors(), those that do not train.
  std::vector<ShardedTensor> frozen_tensors();
  // Moves the gradients that autograd left at the dense parameters of a layer (-1: outside of
  // layers) into main_grad.
  void collect_gradients(int layer);
  // After the weights were loaded or stepped: fp32 masters from the compute copies.
  void masters_from_values();

 private:
  // The groups of some layers, or of what is outside of layers.
  struct Bucket {
    Bucket(const ParallelState& parallel, at::ScalarType dtype);
    FlatGroup sharded_experts;     // parts of routed experts
    FlatGroup replicated_experts;  // of them, what etp does not divide: parts of pairs, biases
    FlatGroup sharded;             // what tp divides
    FlatGroup replicated;          // what it does not
    int lowest_layer = -1;
    bool started = false;
    std::vector<FlatGroup*> groups() {
      return {&sharded_experts, &replicated_experts, &sharded, &replicated};
    }
  };

  void make_buckets(int64_t bucket_elements);
  TensorShard shard_of(const TensorEntry& entry) const;
  FlatGroup& group_of(const TensorEntry& entry);
  void add_dense(const TensorEntry& entry, bool decays);
  void bind_dense();

  struct FlatTensor {
    FlatGroup* group = nullptr;
    size_t index = 0;
  };

  const ModelInfo& model_;
  const TrainableSet& trainable_;
  const ParallelState& parallel_;
  TensorParallel tensor_parallel_;
  at::ScalarType dtype_;
  std::vector<int> layers_;
  std::unique_ptr<Comm> self_comm_ = make_self_comm();  // of a group that this layout does not have
  std::vector<std::unique_ptr<Bucket>> buckets_;        // the last one: outside of layers
  std::map<int, Bucket*> bucket_of_layer_;              // -1: outside of layers
  FlatGroup tied_;                                      // an embedding that two stages hold
  std::vector<std::unique_ptr<Parameter>> dense_;
  std::vector<std::pair<Parameter*, FlatTensor>> trained_dense_;
  std::unordered_map<std::string, Parameter*> by_name_;
  std::multimap<int, Parameter*> trained_dense_by_layer_;
  std::map<int, LayerExperts> experts_;
};

// The torch dtype of a DType and back (F32, BF16, F16 only).
at::ScalarType torch_dtype(DType dtype);
DType disk_dtype(at::ScalarType dtype);

}  // namespace sutor
