// What the parts outside of a family need to know of a model: its size, which layers route, its
// tensors. Filled by a family from config.json (layers/models/), free of torch.
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
  int router_groups = 1;          // of neighbouring experts, of which the router uses few a token
  double lora_scale = 0;          // alpha / rank of the tensors of role kLora
  std::vector<bool> moe_layer{};  // [num_layers]
  TensorMap tensors{};            // the head is absent when it is tied

  bool is_moe(int layer) const { return layer >= 0 && layer < num_layers && moe_layer[layer]; }
};

}  // namespace sutor
