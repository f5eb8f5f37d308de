// DeepSeek-V3 and R1 (arXiv 2412.19437), and Kimi-K2, whose config.json says `kimi_k2`: latent
// attention, sigmoid routing by groups with a frozen correction bias, shared experts, dense first
// layers. Layers for multi-token prediction after the last one stay on disk, unused. Numerics as
// transformers 5.23.0, models/deepseek_v3.
#include "layers/decoder/decoder.h"
#include "layers/models/families.h"
#include "layers/models/presets.h"

namespace sutor {
namespace {

const nlohmann::json kDefaults = {{"n_shared_experts", 1},
                                  {"first_k_dense_replace", 3},
                                  {"n_group", 8},
                                  {"topk_group", 4},
                                  {"routed_scaling_factor", 2.5},
                                  {"q_lora_rank", 1536},
                                  {"max_position_embeddings", 4096}};

struct Config {
  Decoder decoder;
  MlaConfig attention;

  explicit Config(const nlohmann::json& json) : Config(ConfigReader(json, kDefaults)) {}
  explicit Config(const ConfigReader& in)
      : decoder(in, {"n_routed_experts", "num_local_experts"}), attention(in) {
    decoder.read_dense_then_shared(in);
    decoder.read_sigmoid_routing(in);
    if (!in.flag_or({"rope_interleave"}, true)) attention.rope_style = RopeStyle::kHalf;
  }
};

nlohmann::json preset(std::string_view size) {
  const bool tiny = size == "tiny";
  return deepseek_preset_of(size, "DeepseekV3ForCausalLM", "deepseek_v3", 1.0,
                            {{"q_lora_rank", tiny ? 40 : 192},
                             {"n_shared_experts", 1},
                             {"topk_method", "noaux_tc"},
                             {"n_group", tiny ? 4 : 8},
                             {"topk_group", tiny ? 2 : 4},
                             {"norm_topk_prob", true},
                             {"routed_scaling_factor", 2.5},
                             {"scoring_func", "sigmoid"}});
}

nlohmann::json kimi_preset(std::string_view size) {
  nlohmann::json config = preset(size);
  config["model_type"] = "kimi_k2";
  config["n_group"] = config["topk_group"] = 1;
  config["routed_scaling_factor"] = 2.827;
  config["rope_theta"] = 50000.0;
  config["rope_scaling"]["factor"] = 32.0;
  config["rope_scaling"]["beta_fast"] = config["rope_scaling"]["beta_slow"] = 1;
  return config;
}

}  // namespace

const Family& deepseek_v3_family() {
  static const Family family{"deepseek_v3", decoder_info<Config>, preset, build_decoder<Config>};
  return family;
}

const Family& kimi_k2_family() {
  static const Family family{"kimi_k2", decoder_info<Config>, kimi_preset, build_decoder<Config>};
  return family;
}

}  // namespace sutor
