#include "launch/preflight/memory_estimate.h"

#include "csrc/base/dtype.h"
#include "parallel_state/layout/rank_layout.h"
#include "parallel_state/layout/stage_costs.h"
#include "parallel_state/placement/tensor_shard.h"

namespace sutor {
namespace {

constexpr int64_t kGradientBytes = 4;  // fp32 whatever the weights are

// Of the optimizer, an element; values that lie in the weights themselves cost nothing more.
int64_t state_bytes(const OptimizerState& state, DType dtype) {
  int64_t bytes = 0;
  for (const StateKind& kind : state.kinds) {
    if (kind.name == state.values && kind.dtype == dtype) continue;
    bytes += static_cast<int64_t>(size_of(kind.dtype));
  }
  return bytes;
}

// Ranks that have the same shard and share its optimizer state.
int64_t replicas_of(const TensorEntry& entry, const RankLayout& layout) {
  const bool whole = entry.split.axis == TensorSplit::Axis::kNone;
  if (entry.expert >= 0) return layout.edp() * (whole ? layout.etp() : 1);
  return int64_t{1} * layout.dp() * layout.cp() * (whole ? layout.tp() : 1);
}

}  // namespace

MemoryEstimate estimate_memory(const Recipe& recipe, const TrainPlan& plan,
                               const OptimizerState& state, const ExpertRanks& expert_ranks,
                               int rank, int world_size) {
  const ModelInfo& model = plan.model;
  const ExpertPlacement placement(model.num_experts, recipe.parallel, world_size, expert_ranks);
  const RankLayout layout(recipe.parallel, world_size);
  const RankCoordinates at = layout.coordinates(rank);
  const StageMap stages =
      make_stage_map(model, recipe.parallel.pp, recipe.parallel.stages,
                     [&](const TensorEntry& entry) { return plan.trainable.contains(entry.name); });
  check_tensor_parallel(model, recipe.parallel);
  const DType dtype = parse_dtype(recipe.model.dtype);
  const auto weight_bytes = static_cast<int64_t>(size_of(dtype));
  const int64_t of_optimizer = state_bytes(state, dtype);
  MemoryEstimate estimate;
  for (const TensorEntry& entry : model.tensors.entries()) {
    if (!is_on_stage(entry, model, stages, at.pp)) continue;
    const bool expert = entry.expert >= 0;
    if (expert && placement.ep_rank_of(entry.layer, entry.expert) != at.ep &&
        !placement.is_replicated(entry.layer, entry.expert)) {
      continue;
    }
    const int64_t elements =
        shard_of(entry, expert ? at.etp : at.tp, expert ? layout.etp() : layout.tp())
            .num_elements();
    if (!plan.trainable.contains(entry.name)) {
      const bool bias = entry.role == TensorRole::kCorrectionBias;
      estimate.frozen += elements * (bias ? 4 : weight_bytes);
      continue;
    }
    estimate.trained += elements * (weight_bytes + kGradientBytes);
    estimate.optimizer += elements / replicas_of(entry, layout) * of_optimizer;
  }
  return estimate;
}

}  // namespace sutor
