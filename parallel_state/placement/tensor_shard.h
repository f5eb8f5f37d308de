// Which piece of a tensor a rank of a tensor-parallel group holds: pure arithmetic.
#pragma once

#include "parallel_state/layout/parallel_options.h"
#include "parallel_state/layout/stage_map.h"
#include "parallel_state/model/model_info.h"

namespace sutor {

// Rows x columns of a tensor; see ShardedTensor for what a row is.
struct TensorShard {
  std::vector<int64_t> global_shape;
  int64_t row_begin = 0, row_count = 0;
  int64_t col_begin = 0, col_count = 0;

  std::vector<int64_t> shape() const;  // of the piece: that of the tensor with one axis shortened
  int64_t num_elements() const { return row_count * col_count; }
};

// [begin, end) of `units` things for part `rank` of `ranks`: near-equal runs, in order.
struct IndexRange {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};
IndexRange rank_range(int64_t units, int rank, int ranks);

// What rank `rank` of a group of `ranks` holds of the tensor. The split must fit, as
// check_tensor_parallel() ensures.
TensorShard shard_of(const TensorEntry& tensor, int rank, int ranks);

// Throws E0213 naming the first tensor whose units do not divide by tp (routed experts: etp), with
// the sizes that would fit.
void check_tensor_parallel(const ModelInfo& model, const ParallelOptions& options);

// Whether a stage holds the tensor. A tied embedding is on the first and on the last one.
bool is_on_stage(const TensorEntry& tensor, const ModelInfo& model, const StageMap& stages,
                 int stage);

}  // namespace sutor
