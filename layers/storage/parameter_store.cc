#include "layers/storage/parameter_store.h"

#include <torch/types.h>

#include <algorithm>

#include "csrc/base/error.h"

namespace sutor {

at::ScalarType torch_dtype(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return at::kFloat;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kF16:
      return at::kHalf;
    default:
      fail(212, "dtype {} cannot be computed with", name_of(dtype));
  }
}

DType disk_dtype(at::ScalarType dtype) {
  if (dtype == at::kFloat) return DType::kF32;
  if (dtype == at::kBFloat16) return DType::kBF16;
  SUTOR_ASSERT(dtype == at::kHalf);
  return DType::kF16;
}

ParameterStore::ParameterStore(const ModelInfo& model, const std::vector<std::string>& trained,
                               const ParallelState& parallel, at::ScalarType dtype,
                               bool decay_matrices_only, int64_t bucket_elements)
    : model_(model),
      parallel_(parallel),
      tensor_parallel_(parallel.tp(), parallel.sequence_parallel()),
      dtype_(dtype),
      tied_(parallel.has_tied_group() ? parallel.tied() : *alone_, dtype) {
  std::unordered_map<std::string, bool> trains;
  for (const std::string& name : trained) trains[name] = true;
  const StageMap& stages = parallel.stages();
  const int first = stages.first_layer(parallel.stage());
  for (int i = 0; i < stages.layers_of(parallel.stage()); ++i) layers_.push_back(first + i);
  make_buckets(trains, bucket_elements);
  for (const TensorEntry& entry : model.tensors.entries()) {
    if (entry.expert >= 0 || !is_on_stage(entry, model, stages, parallel.stage())) continue;
    add_dense(entry, trains.count(entry.name) > 0, !decay_matrices_only || entry.shape.size() >= 2);
  }
  for (const int layer : layers_) {
    if (!model.is_moe(layer)) continue;
    Bucket& bucket = *bucket_of_layer_.at(layer);
    const LayerExperts::Groups groups{bucket.experts, bucket.whole_experts};
    experts_.try_emplace(layer, model, parallel, layer, trains, groups, dtype, decay_matrices_only);
  }
  for (FlatBuffer* buffer : buffers()) buffer->allocate();
  bind_dense();
  for (auto& [layer, experts] : experts_) experts.bind();
}

ParameterStore::Bucket::Bucket(const ParallelState& parallel, at::ScalarType dtype)
    : experts(parallel.edp(), dtype),
      whole_experts(parallel.etp_edp(), dtype),
      divided(parallel.dp_cp(), dtype),
      whole(parallel.tp_dp_cp(), dtype) {}

// By what trains anywhere of a layer, so that all ranks of a stage cut alike.
void ParameterStore::make_buckets(const std::unordered_map<std::string, bool>& trains,
                                  int64_t bucket_elements) {
  std::map<int, int64_t> elements;
  for (const TensorEntry& entry : model_.tensors.entries()) {
    if (trains.count(entry.name)) elements[entry.layer] += num_elements(entry.shape);
  }
  int64_t filled = 0;
  for (auto layer = layers_.rbegin(); layer != layers_.rend(); ++layer) {
    if (buckets_.empty() || filled >= bucket_elements) {
      buckets_.push_back(std::make_unique<Bucket>(parallel_, dtype_));
      filled = 0;
    }
    filled += elements[*layer];
    buckets_.back()->lowest_layer = *layer;
    bucket_of_layer_[*layer] = buckets_.back().get();
  }
  buckets_.push_back(std::make_unique<Bucket>(parallel_, dtype_));
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

TensorPiece ParameterStore::piece_of(const TensorEntry& entry) const {
  const RankLayout& layout = parallel_.layout();
  const RankCoordinates& at = parallel_.coordinates();
  if (entry.expert >= 0) return sutor::piece_of(entry, at.etp, layout.etp());
  return sutor::piece_of(entry, at.tp, layout.tp());
}

FlatBuffer& ParameterStore::buffer_of(const TensorEntry& entry) {
  const bool is_divided = entry.split.axis != TensorSplit::Axis::kNone;
  Bucket& bucket = *bucket_of_layer_.at(entry.layer);
  if (entry.role == TensorRole::kEmbedding && parallel_.has_tied_group()) return tied_;
  return is_divided ? bucket.divided : bucket.whole;
}

void ParameterStore::add_dense(const TensorEntry& entry, bool trains, bool decays) {
  dense_.push_back(std::make_unique<Parameter>());
  Parameter& parameter = *dense_.back();
  parameter.name = entry.name;
  parameter.global_shape = entry.shape;
  if (parallel_.layout().tp() > 1) parameter.split = entry.split;
  by_name_[entry.name] = &parameter;
  const TensorPiece piece = piece_of(entry);
  if (!trains) {
    const bool fp32 = entry.role == TensorRole::kCorrectionBias;
    parameter.value =
        at::empty(piece.shape(), at::TensorOptions().dtype(fp32 ? at::kFloat : dtype_));
    return;
  }
  // Between regions the tp ranks compute the same, unless each has its own tokens.
  if (entry.role == TensorRole::kNorm && !parallel_.sequence_parallel()) {
    parameter.grad_share = 1.0 / parallel_.layout().tp();
  }
  FlatBuffer& buffer = buffer_of(entry);
  trained_dense_.push_back({&parameter, {&buffer, buffer.add(entry.name, piece, decays)}});
  trained_dense_by_layer_.emplace(entry.layer, &parameter);
}

void ParameterStore::bind_dense() {
  for (auto& [parameter, place] : trained_dense_) {
    parameter->value = place.group->value(place.index).requires_grad_();
    parameter->main_grad = place.group->grad(place.index);
  }
}

Parameter* ParameterStore::find(const std::string& name) {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

Parameter& ParameterStore::get(const std::string& name) {
  Parameter* parameter = find(name);
  if (parameter == nullptr) fail(7002, "no tensor `{}` of {} on this rank", name, model_.family);
  return *parameter;
}

namespace {

ShardedTensor place_of(const TensorEntry& entry, const TensorPiece& piece, const at::Tensor& held) {
  ShardedTensor place{
      .name = entry.name, .dtype = disk_dtype(held.scalar_type()), .global_shape = entry.shape};
  place.row_begin = piece.row_begin;
  place.row_count = piece.row_count;
  place.col_begin = piece.col_begin;
  place.col_count = piece.col_count;
  place.data = static_cast<std::byte*>(held.data_ptr());
  return place;
}

}  // namespace

std::vector<ShardedTensor> ParameterStore::tensors() {
  std::vector<ShardedTensor> result;
  for (const TensorEntry& entry : model_.tensors.entries()) {
    if (entry.role == TensorRole::kLora) continue;
    if (!is_on_stage(entry, model_, parallel_.stages(), parallel_.stage())) continue;
    const at::Tensor held = entry.role == TensorRole::kRoutedExpert
                                ? experts_.at(entry.layer).held(entry)
                                : get(entry.name).value;
    if (!held.defined()) continue;
    result.push_back(place_of(entry, piece_of(entry), held));
  }
  return result;
}

std::vector<ShardedTensor> ParameterStore::lora_tensors() {
  std::vector<ShardedTensor> result;
  for (FlatBuffer* buffer : buffers()) {
    for (size_t i = 0; i < buffer->size(); ++i) {
      const TensorEntry& entry = *model_.tensors.find(buffer->name(i));
      if (entry.role != TensorRole::kLora) continue;
      result.push_back(place_of(entry, piece_of(entry), buffer->value(i)));
    }
  }
  return result;
}

std::vector<ShardedTensor> ParameterStore::frozen_tensors() {
  std::unordered_map<std::string, bool> trained;
  for (const FlatBuffer* buffer : buffers()) {
    for (size_t i = 0; i < buffer->size(); ++i) trained[buffer->name(i)] = true;
  }
  std::vector<ShardedTensor> result;
  for (ShardedTensor& piece : tensors()) {
    if (!trained.count(piece.name)) result.push_back(std::move(piece));
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
    parameter.main_grad.add_(grad, parameter.grad_share);
    grad.reset();
  }
}

}  // namespace sutor
