// What the rest of the program needs to know of a model: its size, which layers route, its tensors.
// A family fills it from config.json (layers/models/). Free of torch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel_state/model/tensor_map.h"

namespace sutor {

struct ModelInfo {
  std::string family;  // model_type of config.json
  int num_layers = 0;
  int64_t hidden_size = 0;
  int64_t vocab_size = 0;
  int num_experts = 0;  // routed experts of an MoE layer
  int top_k = 0;
  int64_t expert_width = 0;
  bool tied_head = false;
  int router_groups = 1;          // groups of neighbouring experts; a token uses few of them
  double lora_scale = 0;          // alpha / rank, of the tensors of role kLora
  std::vector<bool> moe_layer{};  // [num_layers]
  TensorMap tensors{};            // the head is absent when it is tied

  bool is_moe(int layer) const { return layer >= 0 && layer < num_layers && moe_layer[layer]; }
};

}  // namespace sutor
