// Pieces of tensors by rank.
#include "parallel_state/placement/tensor_shard.h"

#include "csrc/base/error.h"

namespace sutor {
namespace {

bool is_expert_tensor(const TensorEntry& tensor) { return tensor.expert >= 0; }

std::string divisors_of(int64_t units) {
  std::string text;
  for (int64_t d = 1; d <= units && d <= 1024; ++d) {
    if (units % d == 0) text += (text.empty() ? "" : ", ") + std::to_string(d);
  }
  return text;
}

}  // namespace

std::vector<int64_t> TensorShard::shape() const {
  std::vector<int64_t> shape = global_shape;
  shape[0] = row_count;
  if (shape.size() == 2) shape[1] = col_count;
  return shape;
}

IndexRange rank_range(int64_t units, int rank, int ranks) {
  return {units * rank / ranks, units * (rank + 1) / ranks};
}

TensorShard shard_of(const TensorEntry& tensor, int rank, int ranks) {
  TensorShard shard{.global_shape = tensor.shape, .row_count = tensor.shape[0], .col_count = 1};
  for (size_t i = 1; i < tensor.shape.size(); ++i) shard.col_count *= tensor.shape[i];
  const TensorSplit& split = tensor.split;
  if (ranks == 1 || split.axis == TensorSplit::Axis::kNone) return shard;
  const bool rows = split.axis == TensorSplit::Axis::kRows;
  SUTOR_ASSERT(rows || tensor.shape.size() == 2);
  const int64_t each = (rows ? shard.row_count : shard.col_count) / split.units;
  const IndexRange run = rank_range(split.units, rank, ranks);
  (rows ? shard.row_begin : shard.col_begin) = run.begin * each;
  (rows ? shard.row_count : shard.col_count) = run.size() * each;
  return shard;
}

void check_tensor_parallel(const ModelInfo& model, const ParallelOptions& options) {
  for (const TensorEntry& tensor : model.tensors.entries()) {
    const bool expert = is_expert_tensor(tensor);
    const int ranks = expert ? options.etp : options.tp;
    const TensorSplit& split = tensor.split;
    if (ranks == 1 || split.axis == TensorSplit::Axis::kNone) continue;
    if (split.may_be_uneven ? split.units >= ranks : split.units % ranks == 0) continue;
    fail(ErrorCode::kIndivisibleTensor,
         "{}({}) does not divide the {} {} of {}. Sizes that do: {}.", expert ? "etp" : "tp", ranks,
         split.units, split.unit, tensor.name, divisors_of(split.units));
  }
}

bool is_on_stage(const TensorEntry& tensor, const ModelInfo& model, const StageMap& stages,
                 int stage) {
  if (tensor.layer >= 0) return stages.stage_of(tensor.layer) == stage;
  const int last = stages.num_stages() - 1;
  if (tensor.role == TensorRole::kEmbedding) {
    return stage == 0 || (model.tied_head && stage == last);
  }
  return stage == last;
}

}  // namespace sutor
