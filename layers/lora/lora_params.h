// Low-rank adaptation (arXiv 2106.09685): A [rank, in] and B [out, rank] train beside a frozen
// matrix W [out, in], and the layer computes x W^T + alpha / rank (x A^T) B^T. Which matrices get a
// pair, the names of the pairs, and their initial values. Free of torch.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "layers/esft/trainable_params.h"
#include "layers/lora/lora_options.h"
#include "parallel_state/model/expert_config.h"
#include "parallel_state/model/model_info.h"
#include "parallel_state/model/sharded_tensor.h"

namespace sutor {

// The pair of `model.layers.0.self_attn.q_proj.weight` is called
// `model.layers.0.self_attn.q_proj.lora_A.weight` and `...lora_B.weight`.
std::string lora_name(std::string_view weight, char which);  // which: 'A' or 'B'
// The weight that a pair belongs to; empty for another name.
std::string weight_of_lora(std::string_view lora);

// The model with the pairs of all target matrices (role kLora, after all other tensors). `config`:
// the experts of target `experts`. Throws E0205 for an unknown target, E0315 when nothing is a
// target.
ModelInfo with_lora(const ModelInfo& model, const LoraOptions& options, const ExpertConfig& config);
TrainableSet lora_trainable_set(const ModelInfo& model);

// The initial values of a pair: A uniform in +-1/sqrt(in), which is peft's Kaiming rule; B zero. A
// function of the seed, the name and the element's index alone.
void fill_initial_lora(const ShardedTensor& destination, uint64_t seed);

}  // namespace sutor
