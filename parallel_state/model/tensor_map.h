// The tensors of a model: global Hugging Face names, shapes, roles, and where on disk each may be
// found. A family fills the map from config.json; the generator, the loader and the export read it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sutor {

enum class TensorRole {
  kEmbedding,
  kHead,
  kNorm,
  kAttention,
  kDenseMlp,
  kRouter,
  kCorrectionBias,  // fp32, only shifts the choice of experts: it has no gradient and never trains
  kRoutedExpert,
  kSharedExpert,
  kLora,  // a low-rank pair beside a frozen matrix; no model directory contains it
};

std::string_view name_of(TensorRole role);
// Whether a tensor of this role can have a gradient at all.
inline bool can_train(TensorRole role) { return role != TensorRole::kCorrectionBias; }

// One stored tensor that can supply a model tensor. `index >= 0`: the stored tensor has one more
// leading axis, and the index-th slice of it is meant. The model tensor's rows are the rows
// row_begin, row_begin + row_step, ... of the stored tensor (or of that slice), or its columns when
// it is stored `transposed`.
struct DiskSource {
  std::string name;
  int64_t index = -1;
  int64_t row_begin = 0;
  int64_t row_step = 1;
  bool transposed = false;
  // Shape that the whole stored tensor must have; empty = the shape of the model tensor.
  std::vector<int64_t> disk_shape{};
};

// How a tensor is sharded over the ranks of a tensor-parallel group (tp; etp for routed experts and
// their low-rank pairs): in runs of whole units along one axis.
struct TensorSplit {
  enum class Axis { kNone, kRows, kColumns };
  Axis axis = Axis::kNone;  // kNone: replicated
  int64_t units = 0;        // what no shard boundary divides: heads, or single rows or columns
  const char* unit = "";    // their name, for messages
  bool may_be_uneven = false;
};

struct TensorEntry {
  std::string name;  // global HF name: model.layers.12.mlp.experts.37.up_proj.weight
  std::vector<int64_t> shape;
  TensorRole role = TensorRole::kNorm;
  int layer = -1;          // global layer number, -1 outside of layers
  int expert = -1;         // global expert id of routed experts and their pairs
  std::string projection;  // of those: gate | up | down, for a matrix and for its bias
  // In order of preference; the first one that the directory has is used. The first is the tensor
  // under its own name; the others are fused forms or the tied embedding.
  std::vector<DiskSource> sources;
  TensorSplit split;

  // "weight" or "bias".
  std::string_view kind() const { return shape.size() == 1 ? "bias" : "weight"; }
};

class TensorMap {
 public:
  void add(TensorEntry entry);  // duplicate names are an internal error
  const std::vector<TensorEntry>& entries() const { return entries_; }
  const TensorEntry* find(std::string_view name) const;  // nullptr when absent
  size_t size() const { return entries_.size(); }

 private:
  std::vector<TensorEntry> entries_;
  std::unordered_map<std::string, size_t> by_name_;
};

}  // namespace sutor
