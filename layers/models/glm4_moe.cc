// GLM-4.5, GLM-4.5-Air and their successors: grouped-query attention with biases on q, k and v,
// optional per-head q/k norm and a rotation of the first half of every head; DeepSeek-V3's routing;
// shared experts; dense first layers. Layers for multi-token prediction after the last one stay on
// disk, unused. Numerics as transformers 5.23.0, models/glm4_moe.
#include "layers/decoder/decoder.h"
#include "layers/models/families.h"
#include "layers/models/presets.h"

namespace sutor {
namespace {

const nlohmann::json kDefaults = {{"n_shared_experts", 1},
                                  {"first_k_dense_replace", 1},
                                  {"n_group", 1},
                                  {"topk_group", 1},
                                  {"num_key_value_heads", 8},
                                  {"rms_norm_eps", 1e-5},
                                  {"max_position_embeddings", 131072}};

struct Config {
  Decoder decoder;
  GqaConfig attention;

  explicit Config(const nlohmann::json& json) : Config(ConfigReader(json, kDefaults)) {}
  explicit Config(const ConfigReader& in)
      : decoder(in, {"n_routed_experts", "num_local_experts"}), attention(in, 10000.0, 0.5) {
    decoder.read_dense_then_shared(in);
    decoder.read_sigmoid_routing(in);
    attention.qkv_bias = in.flag_or({"attention_bias"}, false);
    if (in.flag_or({"use_qk_norm"}, false)) attention.qk_norm = QkNorm::kPerHead;
  }
};

nlohmann::json preset(std::string_view size) {
  const bool tiny = size == "tiny";
  return preset_of(size, "Glm4MoeForCausalLM", "glm4_moe",
                   {{"head_dim", tiny ? 16 : 64},
                    {"partial_rotary_factor", 0.5},
                    {"use_qk_norm", true},
                    {"attention_bias", true},
                    {"intermediate_size", tiny ? 96 : 1408},
                    {"moe_intermediate_size", tiny ? 32 : 256},
                    {"n_routed_experts", tiny ? 8 : 64},
                    {"num_experts_per_tok", tiny ? 3 : 6},
                    {"n_shared_experts", 1},
                    {"first_k_dense_replace", 1},
                    {"n_group", 1},
                    {"topk_group", 1},
                    {"norm_topk_prob", true},
                    {"routed_scaling_factor", 2.5},
                    {"rms_norm_eps", 1e-5},
                    {"rope_theta", 1000000.0}});
}

}  // namespace

const Family& glm4_moe_family() {
  static const Family family{"glm4_moe", decoder_info<Config>, preset, build_decoder<Config>};
  return family;
}

}  // namespace sutor
