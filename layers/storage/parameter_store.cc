#include "layers/storage/parameter_store.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "csrc/base/error.h"
#include "csrc/ops/device/memory.h"

namespace sutor {

ParameterStore::ParameterStore(const ModelInfo& model, const TrainableSet& trainable,
                               const ParallelState& parallel, at::ScalarType dtype,
                               bool decay_matrices_only, int64_t bucket_elements, at::Device device)
    : model_(model),
      trainable_(trainable),
      parallel_(parallel),
      tensor_parallel_(parallel.tp(), parallel.sequence_parallel()),
      options_(at::TensorOptions().dtype(dtype).device(device)),
      tied_(parallel.has_tied_group() ? parallel.tied() : *self_comm_, options_) {
  const ops::MemoryScope memory(ops::MemoryItem::kWeights);
  const StageMap& stages = parallel.stages();
  const int first = stages.first_layer(parallel.stage());
  for (int i = 0; i < stages.layers_of(parallel.stage()); ++i) layers_.push_back(first + i);
  make_buckets(bucket_elements);
  for (const TensorEntry& entry : model.tensors.entries()) {
    if (entry.expert >= 0 || !is_on_stage(entry, model, stages, parallel.stage())) continue;
    add_dense(entry, !decay_matrices_only || entry.shape.size() >= 2);
  }
  for (const int layer : layers_) {
    if (!model.is_moe(layer)) continue;
    Bucket& bucket = *bucket_of_layer_.at(layer);
    const LayerExperts::Groups groups{bucket.sharded_experts, bucket.replicated_experts};
    experts_.try_emplace(layer, model, parallel, layer, trainable, groups, options_,
                         decay_matrices_only);
  }
  for (FlatBuffer* buffer : buffers()) buffer->allocate();
  bind_dense();
  for (auto& [layer, experts] : experts_) experts.bind();
}

ParameterStore::Bucket::Bucket(const ParallelState& parallel, const at::TensorOptions& options)
    : sharded_experts(parallel.edp(), options),
      replicated_experts(parallel.etp_edp(), options),
      sharded(parallel.dp_cp(), options),
      replicated(parallel.tp_dp_cp(), options) {}

// Counts what trains of a layer on any rank, so that all ranks of a stage get the same buckets.
void ParameterStore::make_buckets(int64_t bucket_elements) {
  std::map<int, int64_t> elements;
  for (const std::string& name : trainable_.names()) {
    const TensorEntry& entry = *model_.tensors.find(name);
    elements[entry.layer] += num_elements(entry.shape);
  }
  int64_t filled = 0;
  for (auto layer = layers_.rbegin(); layer != layers_.rend(); ++layer) {
    if (buckets_.empty() || filled >= bucket_elements) {
      buckets_.push_back(std::make_unique<Bucket>(parallel_, options_));
      filled = 0;
    }
    filled += elements[*layer];
    buckets_.back()->lowest_layer = *layer;
    bucket_of_layer_[*layer] = buckets_.back().get();
  }
  buckets_.push_back(std::make_unique<Bucket>(parallel_, options_));
  bucket_of_layer_[-1] = buckets_.back().get();
}

std::vector<FlatBuffer*> ParameterStore::buffers() {
  std::vector<FlatBuffer*> all;
  for (const auto& bucket : buckets_) {
    for (FlatBuffer* buffer : bucket->buffers()) all.push_back(buffer);
  }
  all.push_back(&tied_);
  return all;
}

void ParameterStore::layer_complete(int layer) {
  for (FlatBuffer* buffer : buffers()) buffer->progress_reduction();
  Bucket& bucket = *bucket_of_layer_.at(layer);
  if (layer < 0 || layer != bucket.lowest_layer) return;
  for (FlatBuffer* buffer : bucket.buffers()) buffer->start_reduction();
  bucket.started = true;
}

void ParameterStore::finish_reductions() {
  for (const auto& bucket : buckets_) {
    if (bucket->started) continue;
    for (FlatBuffer* buffer : bucket->buffers()) buffer->start_reduction();
  }
  tied_.start_reduction();
  for (FlatBuffer* buffer : buffers()) buffer->finish_reduction();
  for (const auto& bucket : buckets_) bucket->started = false;
}

TensorShard ParameterStore::shard_of(const TensorEntry& entry) const {
  const RankLayout& layout = parallel_.layout();
  const RankCoordinates& at = parallel_.coordinates();
  if (entry.expert >= 0) return sutor::shard_of(entry, at.etp, layout.etp());
  return sutor::shard_of(entry, at.tp, layout.tp());
}

FlatBuffer& ParameterStore::buffer_of(const TensorEntry& entry) {
  const bool is_sharded = entry.split.axis != TensorSplit::Axis::kNone;
  Bucket& bucket = *bucket_of_layer_.at(entry.layer);
  if (entry.role == TensorRole::kEmbedding && parallel_.has_tied_group()) return tied_;
  return is_sharded ? bucket.sharded : bucket.replicated;
}

void ParameterStore::add_dense(const TensorEntry& entry, bool decays) {
  dense_.push_back(std::make_unique<Parameter>());
  Parameter& parameter = *dense_.back();
  parameter.name = entry.name;
  parameter.global_shape = entry.shape;
  if (parallel_.layout().tp() > 1) parameter.split = entry.split;
  by_name_[entry.name] = &parameter;
  const TensorShard shard = shard_of(entry);
  if (!trainable_.contains(entry.name)) {
    const bool fp32 = entry.role == TensorRole::kCorrectionBias;
    parameter.value = at::empty(shard.shape(), fp32 ? options_.dtype(at::kFloat) : options_);
    return;
  }
  // Between regions the tp ranks compute the same gradient, unless each has its own tokens.
  if (entry.role == TensorRole::kNorm && !parallel_.sequence_parallel()) {
    parameter.grad_scale = 1.0 / parallel_.layout().tp();
  }
  FlatBuffer& buffer = buffer_of(entry);
  trained_dense_.push_back({&parameter, {&buffer, buffer.add(entry.name, shard, decays)}});
  trained_dense_by_layer_.emplace(entry.layer, &parameter);
}

void ParameterStore::bind_dense() {
  for (auto& [parameter, flat] : trained_dense_) {
    parameter->value = flat.group->value(flat.index).requires_grad_();
    parameter->main_grad = flat.group->grad(flat.index);
  }
}

Parameter* ParameterStore::find(const std::string& name) {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

Parameter& ParameterStore::get(const std::string& name) {
  Parameter* parameter = find(name);
  if (parameter == nullptr) {
    fail(ErrorCode::kNotOnThisRank, "no tensor `{}` of {} on this rank", name, model_.family);
  }
  return *parameter;
}

namespace {

ShardValues shard_of_entry(const TensorEntry& entry, const TensorShard& shard,
                           const at::Tensor& local) {
  ShardedTensor tensor{.name = entry.name, .global_shape = entry.shape};
  tensor.row_begin = shard.row_begin;
  tensor.row_count = shard.row_count;
  tensor.col_begin = shard.col_begin;
  tensor.col_count = shard.col_count;
  return shard_values(std::move(tensor), local);
}

}  // namespace

std::vector<ShardValues> ParameterStore::tensors() {
  std::vector<ShardValues> result;
  for (const TensorEntry& entry : model_.tensors.entries()) {
    if (entry.role == TensorRole::kLora) continue;
    if (!is_on_stage(entry, model_, parallel_.stages(), parallel_.stage())) continue;
    const at::Tensor local = entry.role == TensorRole::kRoutedExpert
                                 ? experts_.at(entry.layer).local_shard(entry)
                                 : get(entry.name).value.detach();
    if (!local.defined()) continue;
    result.push_back(shard_of_entry(entry, shard_of(entry), local));
  }
  return result;
}

std::vector<ShardValues> ParameterStore::lora_tensors() {
  std::vector<ShardValues> result;
  for (FlatBuffer* buffer : buffers()) {
    for (size_t i = 0; i < buffer->size(); ++i) {
      const TensorEntry& entry = *model_.tensors.find(buffer->name(i));
      if (entry.role != TensorRole::kLora) continue;
      result.push_back(shard_of_entry(entry, shard_of(entry), buffer->value(i)));
    }
  }
  return result;
}

std::vector<ShardValues> ParameterStore::frozen_tensors() {
  std::vector<ShardValues> result;
  for (ShardValues& shard : tensors()) {
    if (!trainable_.contains(shard.place.name)) result.push_back(std::move(shard));
  }
  return result;
}

void ParameterStore::collect_gradients(int layer) {
  at::NoGradGuard no_grad;
  const auto [begin, end] = trained_dense_by_layer_.equal_range(layer);
  for (auto it = begin; it != end; ++it) {
    Parameter& parameter = *it->second;
    at::Tensor& grad = parameter.value.mutable_grad();
    if (!grad.defined()) continue;
    parameter.main_grad.add_(grad, parameter.grad_scale);
    grad.reset();
  }
}

}  // namespace sutor
