// What Megatron-Core calls a parameter inside a rank.
#pragma once

#include <string>

#include "parallel_state/model/model_info.h"

namespace sutor {

// `transformer_engine`: the layer spec of Transformer Engine (grouped experts, norms fused into the
// next linear), else Megatron-Core's own (one module an expert). Sources: Megatron-Core's GPT layer
// specs, with qk_layernorm on for MLA. Throws E0215 for a tensor without a Megatron name.
std::string megatron_name(const TensorEntry& tensor, int local_layer, int local_expert,
                          const ModelInfo& model, bool transformer_engine);

}  // namespace sutor
