// DeepSeek-V2 and V2-Lite (arXiv 2405.04434): latent attention with or without q_lora, softmax
// routing (greedy or group-limited, never renormalised), shared experts, dense first layers.
// Numerics as transformers 5.23.0, models/deepseek_v2.
#include "layers/decoder/decoder.h"
#include "layers/models/families.h"
#include "layers/models/presets.h"

namespace sutor {
namespace {

const nlohmann::json kDefaults = {{"n_shared_experts", 2}};

struct Config {
  Decoder decoder;
  MlaConfig attention;

  explicit Config(const nlohmann::json& json) : Config(ConfigReader(json, kDefaults)) {}
  explicit Config(const ConfigReader& in) : decoder(in), attention(in) {
    decoder.read_dense_then_shared(in);
    RouterOptions& router = decoder.moe.router;
    router.fp32_logits = router.fp32_weights = true;
    router.scale = in.number_or({"routed_scaling_factor"}, 1.0);
    in.require_text("scoring_func", "softmax");
    const std::string method = in.text_or({"topk_method"}, "greedy");
    if (method != "greedy" && method != "group_limited_greedy") {
      in.unsupported("topk_method", "greedy and group_limited_greedy are");
    }
    if (method == "group_limited_greedy") decoder.read_groups(in, 1);
  }
};

nlohmann::json preset(std::string_view size) {
  const bool tiny = size == "tiny";
  nlohmann::json yarn = {{"type", "yarn"},
                         {"factor", 40.0},
                         {"beta_fast", 32},
                         {"beta_slow", 1},
                         {"mscale", 0.707},
                         {"mscale_all_dim", 0.707},
                         {"original_max_position_embeddings", tiny ? 64 : 1024}};
  return preset_of(size, "DeepseekV2ForCausalLM", "deepseek_v2",
                   {{"num_key_value_heads", tiny ? 4 : 8},
                    {"q_lora_rank", nullptr},
                    {"kv_lora_rank", tiny ? 32 : 128},
                    {"qk_nope_head_dim", tiny ? 16 : 64},
                    {"qk_rope_head_dim", tiny ? 8 : 32},
                    {"v_head_dim", tiny ? 16 : 64},
                    {"intermediate_size", tiny ? 96 : 1408},
                    {"moe_intermediate_size", tiny ? 32 : 256},
                    {"n_routed_experts", tiny ? 8 : 64},
                    {"num_experts_per_tok", tiny ? 3 : 6},
                    {"n_shared_experts", 2},
                    {"first_k_dense_replace", 1},
                    {"moe_layer_freq", 1},
                    {"topk_method", "greedy"},
                    {"n_group", 1},
                    {"topk_group", 1},
                    {"norm_topk_prob", false},
                    {"routed_scaling_factor", 1.0},
                    {"scoring_func", "softmax"},
                    {"attention_bias", false},
                    {"rope_scaling", yarn}});
}

}  // namespace

const Family& deepseek_v2_family() {
  static const Family family{"deepseek_v2", decoder_info<Config>, preset, build_decoder<Config>};
  return family;
}

}  // namespace sutor
