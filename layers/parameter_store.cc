#include "layers/parameter_store.h"

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
    if (model.is_moe(layer)) add_experts(layer, trains);
  }
  for (FlatGroup* group : groups()) group->allocate();
  bind_dense();
  bind_experts();
}

ParameterStore::Bucket::Bucket(const ParallelState& parallel, at::ScalarType dtype)
    : experts(parallel.edp(), dtype),
      whole_pairs(parallel.etp_edp(), dtype),
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

std::vector<FlatGroup*> ParameterStore::groups() {
  std::vector<FlatGroup*> all;
  for (const auto& bucket : buckets_) {
    for (FlatGroup* group : bucket->groups()) all.push_back(group);
  }
  all.push_back(&tied_);
  return all;
}

void ParameterStore::layer_complete(int layer) {
  for (FlatGroup* group : groups()) group->progress_reduction();
  Bucket& bucket = *bucket_of_layer_.at(layer);
  if (layer < 0 || layer != bucket.lowest_layer) return;
  for (FlatGroup* group : bucket.groups()) group->start_reduction();
  bucket.started = true;
}

void ParameterStore::finish_reductions() {
  for (const auto& bucket : buckets_) {
    if (bucket->started) continue;
    for (FlatGroup* group : bucket->groups()) group->start_reduction();
  }
  tied_.start_reduction();
  for (FlatGroup* group : groups()) group->finish_reduction();
  for (const auto& bucket : buckets_) bucket->started = false;
}

TensorPiece ParameterStore::piece_of(const TensorEntry& entry) const {
  const RankLayout& layout = parallel_.layout();
  const RankCoordinates& at = parallel_.coordinates();
  if (entry.expert >= 0) return sutor::piece_of(entry, at.etp, layout.etp());
  return sutor::piece_of(entry, at.tp, layout.tp());
}

FlatGroup& ParameterStore::group_of(const TensorEntry& entry) {
  const bool is_divided = entry.split.axis != TensorSplit::Axis::kNone;
  Bucket& bucket = *bucket_of_layer_.at(entry.layer);
  if (entry.expert >= 0) return is_divided ? bucket.experts : bucket.whole_pairs;
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
  FlatGroup& group = group_of(entry);
  trained_dense_.push_back({&parameter, {&group, group.add(entry.name, piece, decays)}});
  trained_dense_by_layer_.emplace(entry.layer, &parameter);
}

void ParameterStore::bind_dense() {
  for (auto& [parameter, place] : trained_dense_) {
    parameter->value = place.group->value(place.index).requires_grad_();
    parameter->main_grad = place.group->grad(place.index);
  }
}

// Plans the storage of a layer's local experts. In the flat buffer: gate and up of every trained
// slot, then down of every trained slot, so that both stacks are contiguous.
void ParameterStore::add_experts(int layer, const std::unordered_map<std::string, bool>& trains) {
  const ExpertPlacement& placement = parallel_.placement();
  const int ep_rank = parallel_.coordinates().ep;
  ExpertStorage storage;
  storage.num_experts = model_.num_experts;
  const std::vector<int> held = placement.local_experts(layer, ep_rank);
  storage.num_local = static_cast<int64_t>(held.size());
  storage.hidden = model_.hidden_size;
  storage.width =
      part_of(model_.expert_width, parallel_.coordinates().etp, parallel_.layout().etp()).size();
  std::vector<std::map<std::string, const TensorEntry*>> of_local(storage.num_local);
  std::vector<std::map<std::string, std::vector<const TensorEntry*>>> pairs(storage.num_local);
  for (const TensorEntry& entry : model_.tensors.entries()) {
    if (entry.expert < 0 || entry.layer != layer) continue;
    const auto at = std::find(held.begin(), held.end(), entry.expert);
    if (at == held.end()) continue;
    const auto local = at - held.begin();
    if (entry.role == TensorRole::kLora) {
      pairs[local][entry.projection].push_back(&entry);  // A, then B
    } else {
      of_local[local][entry.projection] = &entry;
    }
  }
  std::vector<int64_t> trained, adapted, rest;
  for (int64_t local = 0; local < storage.num_local; ++local) {
    const bool is_trained = trains.count(of_local[local].at("gate")->name) > 0;
    (is_trained ? trained : pairs[local].empty() ? rest : adapted).push_back(local);
  }
  SUTOR_ASSERT(trained.empty() || adapted.empty());
  for (const auto* tuned : {&trained, &adapted}) {  // copies are of frozen experts
    SUTOR_ASSERT(tuned->empty() || tuned->back() < placement.num_local_experts());
  }
  storage.num_trained = static_cast<int64_t>(trained.size());
  storage.lora.resize(adapted.size());
  storage.slot_of_local.assign(static_cast<size_t>(placement.local_numbers()), -1);
  int64_t slot = 0;
  for (const auto* locals : {&trained, &adapted, &rest}) {
    for (const int64_t local : *locals) storage.slot_of_local[local] = slot++;
  }
  FlatGroup& group = bucket_of_layer_.at(layer)->experts;
  const size_t first = group.size();
  for (const int64_t local : trained) {
    for (const char* projection : {"gate", "up"}) {
      const TensorEntry& entry = *of_local[local].at(projection);
      group.add(entry.name, piece_of(entry), true);
    }
  }
  const size_t down = group.size();
  for (const int64_t local : trained) {
    const TensorEntry& entry = *of_local[local].at("down");
    group.add(entry.name, piece_of(entry), true);
  }
  expert_flat_[layer] = {first, down};
  for (const int64_t local : adapted) {
    for (const char* projection : {"gate", "up", "down"}) {
      for (const TensorEntry* entry : pairs[local].at(projection)) {
        FlatGroup& of_pair = group_of(*entry);
        lora_flat_[layer].push_back({&of_pair, of_pair.add(entry->name, piece_of(*entry), true)});
      }
    }
  }
  const auto options = at::TensorOptions().dtype(dtype_);
  const int64_t n = storage.num_local - storage.num_trained;
  storage.frozen_gate_up = at::empty({n, 2 * storage.width, storage.hidden}, options);
  storage.frozen_down = at::empty({n, storage.hidden, storage.width}, options);
  experts_.emplace(layer, std::move(storage));
}

void ParameterStore::bind_experts() {
  for (auto& [layer, storage] : experts_) {
    bind_lora(layer, storage);
    const auto [first, down] = expert_flat_.at(layer);
    const int64_t n = storage.num_trained, h = storage.hidden, w = storage.width;
    if (n == 0) {
      storage.trained_gate_up = at::empty({0, 2 * w, h}, at::TensorOptions().dtype(dtype_));
      storage.trained_down = at::empty({0, h, w}, at::TensorOptions().dtype(dtype_));
      continue;
    }
    FlatGroup& group = bucket_of_layer_.at(layer)->experts;
    storage.trained_gate_up = group.values_from(first, {n, 2 * w, h});
    storage.trained_down = group.values_from(down, {n, h, w});
    storage.grad_gate_up = group.grads_from(first, {n, 2 * w, h});
    storage.grad_down = group.grads_from(down, {n, h, w});
  }
}

void ParameterStore::bind_lora(int layer, ExpertStorage& storage) {
  for (size_t slot = 0; slot < storage.lora.size(); ++slot) {
    const Place* place = &lora_flat_.at(layer)[6 * slot];
    ExpertLora& lora = storage.lora[slot];
    lora.scale = model_.lora_scale;
    for (LoraPair* pair : {&lora.gate, &lora.up, &lora.down}) {
      pair->a = place->group->value(place->index);
      pair->grad_a = place->group->grad(place->index);
      ++place;
      pair->b = place->group->value(place->index);
      pair->grad_b = place->group->grad(place->index);
      ++place;
    }
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
  const int ep_rank = parallel_.coordinates().ep;
  for (const TensorEntry& entry : model_.tensors.entries()) {
    if (entry.role == TensorRole::kLora) continue;
    if (!is_on_stage(entry, model_, parallel_.stages(), parallel_.stage())) continue;
    at::Tensor held;
    if (entry.role != TensorRole::kRoutedExpert) {
      held = get(entry.name).value;
    } else {
      const ExpertPlacement& placement = parallel_.placement();
      const bool owned = placement.ep_rank_of(entry.layer, entry.expert) == ep_rank;
      if (!owned && !placement.is_replicated(entry.layer, entry.expert)) continue;
      const ExpertStorage& storage = experts_.at(entry.layer);
      const int64_t slot =
          storage.slot_of_local[placement.local_id_on(entry.layer, entry.expert, ep_rank)];
      held = entry.projection == "down"
                 ? storage.down(slot)
                 : storage.gate_up(slot).narrow(0, entry.projection == "up" ? storage.width : 0,
                                                storage.width);
    }
    result.push_back(place_of(entry, piece_of(entry), held));
  }
  return result;
}

std::vector<ShardedTensor> ParameterStore::lora_tensors() {
  std::vector<ShardedTensor> result;
  for (FlatGroup* group : groups()) {
    for (size_t i = 0; i < group->size(); ++i) {
      const TensorEntry& entry = *model_.tensors.find(group->name(i));
      if (entry.role != TensorRole::kLora) continue;
      result.push_back(place_of(entry, piece_of(entry), group->value(i)));
    }
  }
  return result;
}

std::vector<ShardedTensor> ParameterStore::frozen_tensors() {
  std::unordered_map<std::string, bool> trained;
  for (const FlatGroup* group : groups()) {
    for (size_t i = 0; i < group->size(); ++i) trained[group->name(i)] = true;
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

void ParameterStore::masters_from_values() {
  for (FlatGroup* group : groups()) group->masters_from_values();
}

}  // namespace sutor
