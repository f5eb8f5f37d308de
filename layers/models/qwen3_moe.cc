// Qwen3-MoE: grouped-query attention with per-head q/k norm, softmax routing with renormalised
// top-k, sparse step. Numerics as transformers 5.23.0, models/qwen3_moe.
#include "layers/decoder/decoder.h"
#include "layers/models/families.h"
#include "layers/models/presets.h"

namespace sutor {
namespace {

const nlohmann::json kDefaults = {
    {"num_key_value_heads", 4}, {"sliding_window", 4096}, {"max_position_embeddings", 32768}};

// All layers slide, or none: `layer_types` is not read by transformers, and must say the same.
std::vector<int64_t> windows_of(const ConfigReader& in) {
  if (in.flag_or({"use_sliding_window"}, false)) {
    for (const std::string& type : in.texts_or_empty({"layer_types"})) {
      if (type != "sliding_attention") {
        in.unsupported("layer_types", "with use_sliding_window, attention slides in all layers");
      }
    }
  }
  return read_switched_sliding_windows(in, [](int64_t) { return true; });
}

struct Config {
  Decoder decoder;
  GqaConfig attention;

  explicit Config(const nlohmann::json& json) : Config(ConfigReader(json, kDefaults)) {}
  explicit Config(const ConfigReader& in)
      : decoder(in, {"num_experts", "num_local_experts"}),
        attention(in, in.rope(10000.0), windows_of(in)) {
    decoder.dense_width = in.integer({"intermediate_size"});
    decoder.expert_width = in.integer({"moe_intermediate_size"});
    decoder.read_sparse_step(in);
    decoder.moe.router.renormalize = in.flag_or({"norm_topk_prob"}, false);
    attention.qkv_bias = attention.o_bias = in.flag_or({"attention_bias"}, false);
    attention.qk_norm = QkNorm::kPerHead;
  }
};

nlohmann::json preset(std::string_view size) {
  const bool tiny = size == "tiny";
  return preset_of(size, "Qwen3MoeForCausalLM", "qwen3_moe",
                   {{"head_dim", tiny ? 16 : 64},
                    {"intermediate_size", tiny ? 96 : 2048},
                    {"moe_intermediate_size", tiny ? 32 : 256},
                    {"num_experts", tiny ? 8 : 64},
                    {"num_experts_per_tok", tiny ? 3 : 6},
                    {"norm_topk_prob", true},
                    {"decoder_sparse_step", 1},
                    {"mlp_only_layers", nlohmann::json::array()},
                    {"router_aux_loss_coef", 0.001},
                    {"output_router_logits", false},
                    {"attention_bias", false},
                    {"use_sliding_window", false}});
}

}  // namespace

const Family& qwen3_moe_family() {
  static const Family family{"qwen3_moe", decoder_info<Config>, preset, build_decoder<Config>};
  return family;
}

}  // namespace sutor
