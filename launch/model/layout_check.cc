#include "launch/model/layout_check.h"

#include "parallel_state/layout/rank_layout.h"
#include "parallel_state/layout/stage_map.h"
#include "parallel_state/placement/expert_placement.h"
#include "parallel_state/placement/tensor_shard.h"

namespace sutor {

void require_layout(const ParallelOptions& options, const ModelInfo& model, int world_size) {
  const ExpertPlacement placement(model.num_experts, options, world_size);
  const RankLayout layout(options, world_size);
  if (options.stages != "auto") {
    const StageMap stages(model.num_layers, options.pp, options.stages);
  }
  check_tensor_parallel(model, options);
}

}  // namespace sutor
