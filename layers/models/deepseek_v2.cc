// DeepSeek-V2 and V2-Lite (arXiv 2405.04434): latent attention with or without q_lora, softmax
// routing (greedy or group-limited, never renormalised), shared experts, dense first layers.
// Numerics as transformers 5.23.0, models/deepseek_v2.
#include "layers/decoder/decoder.h"
#include "layers/models/families.h"
#include "layers/models/presets.h"

namespace sutor {
namespace {

const nlohmann::json kDefaults = {{"n_shared_experts", 2},
                                  {"q_lora_rank", 1536},
                                  {"topk_method", "greedy"},
                                  {"max_position_embeddings", 2048}};

struct Config {
  Decoder decoder;
  MlaConfig attention;

  explicit Config(const nlohmann::json& json) : Config(ConfigReader(json, kDefaults)) {}
  explicit Config(const ConfigReader& in)
      : decoder(in, {"n_routed_experts", "num_experts"}), attention(in) {
    decoder.read_dense_then_shared(in);
    RouterOptions& router = decoder.moe.router;
    router.fp32_logits = router.fp32_weights = true;
    router.scale = in.positive_or({"routed_scaling_factor"}, 1.0);
    in.require_text("scoring_func", "softmax");
    if (!in.has("topk_method")) in.unsupported("topk_method", "transformers stops at null");
    const std::string method = in.text_or({"topk_method"}, "");
    if (method != "greedy" && method != "group_limited_greedy") {
      in.unsupported("topk_method", "greedy and group_limited_greedy are");
    }
    if (method == "group_limited_greedy") decoder.read_groups(in, 1);
  }
};

nlohmann::json preset(std::string_view size) {
  return deepseek_preset_of(size, "DeepseekV2ForCausalLM", "deepseek_v2", 0.707,
                            {{"q_lora_rank", nullptr},
                             {"n_shared_experts", 2},
                             {"topk_method", "greedy"},
                             {"n_group", 1},
                             {"topk_group", 1},
                             {"norm_topk_prob", false},
                             {"routed_scaling_factor", 1.0},
                             {"scoring_func", "softmax"}});
}

}  // namespace

const Family& deepseek_v2_family() {
  static const Family family{"deepseek_v2", decoder_info<Config>, preset, build_decoder<Config>};
  return family;
}

}  // namespace sutor
