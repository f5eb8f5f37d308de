// Small name tables with the names of real families, for tests that need no family code.
#pragma once

#include <string>

#include "parallel_state/model/model_info.h"

namespace sutor::testing {

class ModelBuilder {
 public:
  ModelBuilder(const std::string& family, int num_layers, int num_experts, int top_k) {
    model_.family = family;
    model_.num_layers = num_layers;
    model_.num_experts = num_experts;
    model_.top_k = top_k;
    model_.hidden_size = 8;
    model_.vocab_size = 32;
    model_.expert_width = 4;
    model_.moe_layer.assign(num_layers, false);
  }

  void add(const std::string& name, TensorRole role, int layer = -1, int expert = -1,
           const std::string& projection = "") {
    TensorEntry entry;
    entry.name = name;
    entry.shape = {4, 8};
    entry.role = role;
    entry.layer = layer;
    entry.expert = expert;
    entry.projection = projection;
    model_.tensors.add(entry);
  }
  void mlp(const std::string& prefix, TensorRole role, int layer) {
    for (const char* p : {"gate", "up", "down"}) {
      add(prefix + p + "_proj.weight", role, layer);
    }
  }
  void routed(const std::string& layer_prefix, int layer) {
    model_.moe_layer[layer] = true;
    add(layer_prefix + "mlp.gate.weight", TensorRole::kRouter, layer);
    for (int e = 0; e < model_.num_experts; ++e) {
      for (const char* p : {"gate", "up", "down"}) {
        add(layer_prefix + "mlp.experts." + std::to_string(e) + "." + p + "_proj.weight",
            TensorRole::kRoutedExpert, layer, e, p);
      }
    }
  }
  ModelInfo model_;
};

inline std::string layer_prefix(int layer) { return "model.layers." + std::to_string(layer) + "."; }

// MLA with or without q_lora, `num_dense` dense layers first, with shared experts.
inline ModelInfo deepseek_like(int num_layers, int num_dense, int num_experts,
                               bool q_lora = false) {
  ModelBuilder b("deepseek_v2", num_layers, num_experts, 2);
  b.add("model.embed_tokens.weight", TensorRole::kEmbedding);
  for (int layer = 0; layer < num_layers; ++layer) {
    const std::string p = layer_prefix(layer);
    b.add(p + "input_layernorm.weight", TensorRole::kNorm, layer);
    if (q_lora) {
      for (const char* name : {"q_a_proj", "q_a_layernorm", "q_b_proj"}) {
        b.add(p + "self_attn." + name + ".weight", TensorRole::kAttention, layer);
      }
    } else {
      b.add(p + "self_attn.q_proj.weight", TensorRole::kAttention, layer);
    }
    for (const char* name : {"kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj", "o_proj"}) {
      b.add(p + "self_attn." + name + ".weight", TensorRole::kAttention, layer);
    }
    b.add(p + "post_attention_layernorm.weight", TensorRole::kNorm, layer);
    if (layer < num_dense) {
      b.mlp(p + "mlp.", TensorRole::kDenseMlp, layer);
    } else {
      b.routed(p, layer);
      b.mlp(p + "mlp.shared_experts.", TensorRole::kSharedExpert, layer);
    }
  }
  b.add("model.norm.weight", TensorRole::kNorm);
  b.add("lm_head.weight", TensorRole::kHead);
  return b.model_;
}

// GQA with q/k norms; every layer routes; no shared experts.
inline ModelInfo qwen_like(int num_layers, int num_experts, bool tied = false) {
  ModelBuilder b("qwen3_moe", num_layers, num_experts, 2);
  b.model_.tied_head = tied;
  b.add("model.embed_tokens.weight", TensorRole::kEmbedding);
  for (int layer = 0; layer < num_layers; ++layer) {
    const std::string p = layer_prefix(layer);
    b.add(p + "input_layernorm.weight", TensorRole::kNorm, layer);
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"}) {
      b.add(p + "self_attn." + name + ".weight", TensorRole::kAttention, layer);
    }
    b.add(p + "post_attention_layernorm.weight", TensorRole::kNorm, layer);
    b.routed(p, layer);
  }
  b.add("model.norm.weight", TensorRole::kNorm);
  if (!tied) b.add("lm_head.weight", TensorRole::kHead);
  return b.model_;
}

}  // namespace sutor::testing
