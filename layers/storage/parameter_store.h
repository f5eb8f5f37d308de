// All parameters of a rank. Trainable ones are in flat buffers (layers/optim/flat_buffer.h), frozen
// ones in plain tensors of the model dtype; routed experts are stacked (expert_storage.h). Built
// from names alone, before any block exists.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "layers/esft/trainable_params.h"
#include "layers/optim/flat_buffer.h"
#include "layers/parallel/tensor_parallel.h"
#include "layers/shards/shard_values.h"
#include "layers/storage/expert_storage.h"
#include "parallel_state/model/model_info.h"
#include "parallel_state/model/sharded_tensor.h"
#include "parallel_state/parallel_state.h"
#include "parallel_state/placement/expert_placement.h"

namespace sutor {

// This rank's shard of a tensor that is not a routed expert's.
struct Parameter {
  std::string name;
  std::vector<int64_t> global_shape;
  TensorSplit split;     // how it is sharded; none when tp is 1
  at::Tensor value;      // model dtype (a correction bias: fp32); requires grad when trainable
  at::Tensor main_grad;  // fp32, same shape, a view into the flat gradient; undefined when frozen
  // 1 / number of ranks that compute this same gradient: the reduction adds over all of them.
  double grad_scale = 1;
  bool trains() const { return main_grad.defined(); }
};

// Trainable elements of the layers of a bucket, over all their experts, at which it is full: enough
// for a reduction at full speed, few enough that most reductions overlap with the backward pass.
inline constexpr int64_t kBucketElements = int64_t{1} << 25;

class ParameterStore {
 public:
  // model, trainable and parallel must outlive the store. dtype: of frozen weights and of
  // computing. decay_matrices_only: see OptimOptions::decay. All tensors are on `device`, and
  // whatever computes with them takes its own options from theirs.
  ParameterStore(const ModelInfo& model, const TrainableSet& trainable,
                 const ParallelState& parallel, at::ScalarType dtype, bool decay_matrices_only,
                 int64_t bucket_elements = kBucketElements, at::Device device = at::kCPU);

  const ModelInfo& model() const { return model_; }
  const TrainableSet& trainable() const { return trainable_; }
  const ParallelState& parallel() const { return parallel_; }
  const TensorParallel& tensor_parallel() const { return tensor_parallel_; }
  at::ScalarType dtype() const { return at::typeMetaToScalarType(options_.dtype()); }
  at::Device device() const { return options_.device(); }
  const at::TensorOptions& options() const { return options_; }  // dtype and device
  // The layers of this rank's stage, in order.
  const std::vector<int>& layers() const { return layers_; }

  // Dense (not routed) parameters by global name; find() returns nullptr when this rank has none.
  Parameter& get(const std::string& name);
  Parameter* find(const std::string& name);
  ExpertStorage& experts(int layer) { return experts_.at(layer).storage(); }

  // The trainable parameters, in buckets of layers from the top down, and within a bucket by the
  // ranks that replicate them. All ranks of a stage have the same buffers in the same order, some
  // of them empty.
  std::vector<FlatBuffer*> buffers();
  // Says that the gradients of the layer are complete, and those of the layers above: starts the
  // reduction of a bucket when its last layer is, during the backward pass. Collective over the
  // stage, for every layer that has a backward pass.
  void layer_complete(int layer);
  // Says that all gradients are complete: reduces the rest, and waits. Collective over all ranks.
  void finish_reductions();

  // This rank's shards of the model's tensors, as they are in memory, for a loader to fill.
  std::vector<ShardValues> tensors();
  // The low-rank pairs of this rank.
  std::vector<ShardValues> lora_tensors();
  // Those of tensors() that are frozen.
  std::vector<ShardValues> frozen_tensors();
  // Moves the gradients that autograd left at the dense parameters of a layer (-1: outside of
  // layers) into main_grad.
  void collect_gradients(int layer);

 private:
  // The buffers of some layers, or of the parameters outside of layers.
  struct Bucket {
    Bucket(const ParallelState& parallel, const at::TensorOptions& options);
    FlatBuffer sharded_experts;     // tensors of routed experts that etp shards
    FlatBuffer replicated_experts;  // and those that it replicates: one of a pair, biases
    FlatBuffer sharded;             // dense parameters that tp shards
    FlatBuffer replicated;          // and those that it replicates
    int lowest_layer = -1;
    bool started = false;
    std::vector<FlatBuffer*> buffers() {
      return {&sharded_experts, &replicated_experts, &sharded, &replicated};
    }
  };

  void make_buckets(int64_t bucket_elements);
  TensorShard shard_of(const TensorEntry& entry) const;
  FlatBuffer& buffer_of(const TensorEntry& entry);
  void add_dense(const TensorEntry& entry, bool decays);
  void bind_dense();

  struct FlatTensor {
    FlatBuffer* group = nullptr;
    size_t index = 0;
  };

  const ModelInfo& model_;
  const TrainableSet& trainable_;
  const ParallelState& parallel_;
  TensorParallel tensor_parallel_;
  at::TensorOptions options_;
  std::vector<int> layers_;
  std::unique_ptr<Comm> self_comm_ = make_self_comm();  // of a group that this layout does not have
  std::vector<std::unique_ptr<Bucket>> buckets_;        // the last one: outside of layers
  std::map<int, Bucket*> bucket_of_layer_;              // -1: outside of layers
  FlatBuffer tied_;                                     // an embedding that two stages have
  std::vector<std::unique_ptr<Parameter>> dense_;
  std::vector<std::pair<Parameter*, FlatTensor>> trained_dense_;
  std::unordered_map<std::string, Parameter*> by_name_;
  std::multimap<int, Parameter*> trained_dense_by_layer_;
  std::map<int, LayerExperts> experts_;
};

}  // namespace sutor
