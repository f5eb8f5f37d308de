// Qwen2-MoE (Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B): grouped-query attention with biases on q, k and v,
// softmax routing, a shared expert that a sigmoid gate weighs, sparse step. Numerics as
// transformers 5.23.0, models/qwen2_moe.
#include "layers/decoder/decoder.h"
#include "layers/models/families.h"
#include "layers/models/presets.h"

namespace sutor {
namespace {

const nlohmann::json kDefaults = {{"num_key_value_heads", 16},
                                  {"sliding_window", 4096},
                                  {"max_window_layers", 28},
                                  {"max_position_embeddings", 32768}};

// Attention slides in every other of the first `max_window_layers` layers.
std::vector<int64_t> windows_of(const ConfigReader& in) {
  const int64_t below = in.integer_or({"max_window_layers"}, 0);
  return read_switched_sliding_windows(
      in, [below](int64_t layer) { return layer % 2 == 0 && layer < below; });
}

struct Config {
  Decoder decoder;
  GqaConfig attention;

  explicit Config(const nlohmann::json& json) : Config(ConfigReader(json, kDefaults)) {}
  explicit Config(const ConfigReader& in)
      : decoder(in, {"num_experts"}), attention(in, in.rope(10000.0), windows_of(in)) {
    decoder.dense_width = in.integer({"intermediate_size"});
    decoder.expert_width = in.integer({"moe_intermediate_size"});
    decoder.shared_width = in.integer({"shared_expert_intermediate_size"});
    decoder.moe.shared = "shared_expert";
    decoder.moe.shared_gate = "shared_expert_gate";
    decoder.read_sparse_step(in);
    decoder.moe.router.renormalize = in.flag_or({"norm_topk_prob"}, false);
    attention.qkv_bias = in.flag_or({"qkv_bias"}, true);
  }
};

nlohmann::json preset(std::string_view size) {
  const bool tiny = size == "tiny";
  return preset_of(size, "Qwen2MoeForCausalLM", "qwen2_moe",
                   {{"intermediate_size", tiny ? 96 : 2048},
                    {"moe_intermediate_size", tiny ? 32 : 256},
                    {"shared_expert_intermediate_size", tiny ? 64 : 1024},
                    {"num_experts", tiny ? 8 : 64},
                    {"num_experts_per_tok", tiny ? 3 : 6},
                    {"norm_topk_prob", false},
                    {"qkv_bias", true},
                    {"decoder_sparse_step", 1},
                    {"mlp_only_layers", nlohmann::json::array()},
                    {"use_sliding_window", false},
                    {"router_aux_loss_coef", 0.001},
                    {"output_router_logits", false},
                    {"rope_theta", 1000000.0}});
}

}  // namespace

const Family& qwen2_moe_family() {
  static const Family family{"qwen2_moe", decoder_info<Config>, preset, build_decoder<Config>};
  return family;
}

}  // namespace sutor
