// Whether the ranks of a job and its model can take the layout of a recipe, before anything costly
// begins.
#pragma once

#include "parallel_state/layout/parallel_options.h"
#include "parallel_state/model/model_info.h"

namespace sutor {

// Throws E0210, E0211 and E0213: all that a session would refuse, but for `stages: auto`, which
// goes by what trains.
void require_layout(const ParallelOptions& options, const ModelInfo& model, int world_size);

}  // namespace sutor
