// Hugging Face names to Megatron-Core's.
#include "layers/esft/megatron_names.h"

#include <string_view>
#include <unordered_map>

#include "csrc/base/error.h"

namespace sutor {
namespace {

[[noreturn]] void fail_unnamed(const TensorEntry& tensor) {
  fail(ErrorCode::kNoNameInScheme,
       "the Megatron schemes have no name for `{}`. Use the scheme hf or sutor.", tensor.name);
}

// "linear_fc1" holds gate and up, "linear_fc2" is down.
std::string_view fc_of(std::string_view projection) {
  return projection == "down" ? "linear_fc2" : "linear_fc1";
}

std::string routed_expert(const TensorEntry& tensor, int local_expert, bool transformer_engine) {
  const std::string_view fc = fc_of(tensor.projection);
  const std::string_view kind = tensor.kind();
  if (transformer_engine) return fmt::format("mlp.experts.{}.{}{}", fc, kind, local_expert);
  return fmt::format("mlp.experts.local_experts.{}.{}.{}", local_expert, fc, kind);
}

// `rest` is "<module>.<weight|bias>" of a dense or shared MLP.
std::string mlp(const TensorEntry& tensor, std::string_view rest, std::string_view prefix) {
  if (rest == "gate_proj.weight" || rest == "up_proj.weight") {
    return fmt::format("{}.linear_fc1.weight", prefix);
  }
  if (rest == "down_proj.weight") return fmt::format("{}.linear_fc2.weight", prefix);
  fail_unnamed(tensor);
}

std::string attention(const TensorEntry& tensor, std::string_view rest, bool mla,
                      bool transformer_engine) {
  static const std::unordered_map<std::string_view, std::string_view> linears = {
      {"k_proj", "linear_qkv"},           {"v_proj", "linear_qkv"},
      {"o_proj", "linear_proj"},          {"q_a_proj", "linear_q_down_proj"},
      {"q_b_proj", "linear_q_up_proj"},   {"kv_a_proj_with_mqa", "linear_kv_down_proj"},
      {"kv_b_proj", "linear_kv_up_proj"}, {"q_norm", "q_layernorm"},
      {"k_norm", "k_layernorm"},
  };
  if (rest == "q_a_layernorm.weight") {
    return transformer_engine ? "self_attention.linear_q_up_proj.layer_norm_weight"
                              : "self_attention.q_layernorm.weight";
  }
  if (rest == "kv_a_layernorm.weight") {
    return transformer_engine ? "self_attention.linear_kv_up_proj.layer_norm_weight"
                              : "self_attention.kv_layernorm.weight";
  }
  if (rest == "sinks") return "self_attention.core_attention.softmax_offset";
  const size_t dot = rest.find('.');
  const std::string_view module = rest.substr(0, dot);
  const std::string_view kind = dot == std::string_view::npos ? "" : rest.substr(dot + 1);
  if (kind != "weight" && kind != "bias") fail_unnamed(tensor);
  if (module == "q_proj") {
    return fmt::format("self_attention.{}.{}", mla ? "linear_q_proj" : "linear_qkv", kind);
  }
  const auto it = linears.find(module);
  if (it == linears.end()) fail_unnamed(tensor);
  return fmt::format("self_attention.{}.{}", it->second, kind);
}

std::string layer_norm(const TensorEntry& tensor, std::string_view rest, bool mla, bool moe,
                       bool transformer_engine) {
  if (rest == "input_layernorm.weight") {
    return transformer_engine && !mla ? "self_attention.linear_qkv.layer_norm_weight"
                                      : "input_layernorm.weight";
  }
  if (rest == "post_attention_layernorm.weight") {
    return transformer_engine && !moe ? "mlp.linear_fc1.layer_norm_weight"
                                      : "pre_mlp_layernorm.weight";
  }
  fail_unnamed(tensor);
}

bool strip(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

std::string in_layer(const TensorEntry& tensor, int local_expert, const ModelInfo& model,
                     bool transformer_engine) {
  if (tensor.role == TensorRole::kRoutedExpert) {
    return routed_expert(tensor, local_expert, transformer_engine);
  }
  const std::string layer_prefix = fmt::format("model.layers.{}.", tensor.layer);
  std::string_view rest = tensor.name;
  if (!strip(rest, layer_prefix)) fail_unnamed(tensor);
  const bool mla =
      model.tensors.find(layer_prefix + "self_attn.kv_a_proj_with_mqa.weight") != nullptr;
  if (strip(rest, "self_attn.")) return attention(tensor, rest, mla, transformer_engine);
  if (tensor.role == TensorRole::kCorrectionBias) return "mlp.router.expert_bias";
  if (tensor.role == TensorRole::kRouter) {
    return rest.ends_with(".bias") ? "mlp.router.bias" : "mlp.router.weight";
  }
  if (rest == "mlp.shared_expert_gate.weight") return "mlp.shared_experts.gate_weight";
  if (strip(rest, "mlp.shared_experts.") || strip(rest, "mlp.shared_expert.")) {
    return mlp(tensor, rest, "mlp.shared_experts");
  }
  if (strip(rest, "mlp.")) return mlp(tensor, rest, "mlp");
  return layer_norm(tensor, rest, mla, model.is_moe(tensor.layer), transformer_engine);
}

}  // namespace

std::string megatron_name(const TensorEntry& tensor, int local_layer, int local_expert,
                          const ModelInfo& model, bool transformer_engine) {
  if (tensor.layer >= 0) {
    return fmt::format("decoder.layers.{}.{}", local_layer,
                       in_layer(tensor, local_expert, model, transformer_engine));
  }
  if (tensor.role == TensorRole::kEmbedding) return "embedding.word_embeddings.weight";
  if (tensor.role == TensorRole::kHead) return "output_layer.weight";
  if (tensor.role == TensorRole::kNorm) return "decoder.final_layernorm.weight";
  fail_unnamed(tensor);
}

}  // namespace sutor
