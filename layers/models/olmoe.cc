// OLMoE (arXiv 2409.02060): attention with an RMS norm over all of q and all of k, optionally
// clamped, softmax routing, experts in every layer. Numerics as transformers 5.23.0, models/olmoe.
#include "layers/decoder/decoder.h"
#include "layers/models/families.h"
#include "layers/models/presets.h"

namespace sutor {
namespace {

const nlohmann::json kDefaults = {{"rms_norm_eps", 1e-5}, {"max_position_embeddings", 4096}};

struct Config {
  Decoder decoder;
  GqaConfig attention;

  explicit Config(const nlohmann::json& json)
      : Config(ConfigReader(json, kDefaults, {"num_key_value_heads"})) {}
  explicit Config(const ConfigReader& in)
      : decoder(in, {"num_experts", "num_local_experts"}), attention(in, 10000.0) {
    decoder.expert_width = in.integer({"intermediate_size"});
    decoder.moe.router.renormalize = in.flag_or({"norm_topk_prob"}, false);
    attention.qkv_bias = attention.o_bias = in.flag_or({"attention_bias"}, false);
    attention.qk_norm = QkNorm::kAllHeads;
    if (attention.head_dim * attention.heads != attention.hidden) {
      in.contradictory("head_dim", "the heads together must be as wide as hidden_size");
    }
    if (in.has("clip_qkv")) {
      attention.clip = in.positive_or({"clip_qkv"}, 0);
    }
  }
};

nlohmann::json preset(std::string_view size) {
  const bool tiny = size == "tiny";
  return preset_of(size, "OlmoeForCausalLM", "olmoe",
                   {{"num_key_value_heads", tiny ? 4 : 8},
                    {"intermediate_size", tiny ? 32 : 256},
                    {"num_experts", tiny ? 8 : 64},
                    {"num_experts_per_tok", tiny ? 3 : 8},
                    {"norm_topk_prob", false},
                    {"attention_bias", false},
                    {"clip_qkv", nullptr},
                    {"router_aux_loss_coef", 0.001},
                    {"output_router_logits", false},
                    {"rms_norm_eps", 1e-5}});
}

}  // namespace

const Family& olmoe_family() {
  static const Family family{"olmoe", decoder_info<Config>, preset, build_decoder<Config>};
  return family;
}

}  // namespace sutor
