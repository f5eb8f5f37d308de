// Mixtral 8x7B and 8x22B (arXiv 2401.04088): grouped-query attention, softmax routing with
// renormalised top-k whose weights stay fp32, experts in every layer. On disk the experts are
// `block_sparse_moe` with w1 (gate), w3 (up) and w2 (down); transformers 5 calls the block `mlp` in
// memory. Numerics as transformers 5.23.0, models/mixtral.
#include "layers/decoder/decoder.h"
#include "layers/models/families.h"
#include "layers/models/presets.h"

namespace sutor {
namespace {

const nlohmann::json kDefaults = {
    {"num_key_value_heads", 8}, {"rms_norm_eps", 1e-5}, {"max_position_embeddings", 131072}};

// With `sliding_window`, attention slides in all layers: `layer_types` is not read by transformers,
// and must say the same.
std::vector<int64_t> windows_of(const ConfigReader& in) {
  const bool slides = in.has("sliding_window");
  for (const std::string& type : in.texts_or_empty({"layer_types"})) {
    if ((type == "sliding_attention") != slides) {
      in.unsupported("layer_types", slides ? "with sliding_window, attention slides in all layers"
                                           : "without sliding_window, no attention slides");
    }
  }
  return read_sliding_windows(in, [&in](int64_t) { return in.has("sliding_window"); });
}

struct Config {
  Decoder decoder;
  GqaConfig attention;

  explicit Config(const nlohmann::json& json)
      : Config(ConfigReader(json, kDefaults, {"head_dim"})) {}
  explicit Config(const ConfigReader& in)
      : decoder(in, {"num_local_experts", "num_experts"}),
        attention(in, in.rope(1e6), windows_of(in)) {
    decoder.expert_width = in.integer({"intermediate_size"});
    decoder.block = "block_sparse_moe";
    decoder.expert_names = {.gate = "w1", .up = "w3", .down = "w2"};
    decoder.moe.router.renormalize = true;
    decoder.moe.router.fp32_weights = true;
    in.require_number("router_jitter_noise", 0);
  }
};

nlohmann::json preset(std::string_view size) {
  const bool tiny = size == "tiny";
  return preset_of(size, "MixtralForCausalLM", "mixtral",
                   {{"head_dim", nullptr},
                    {"intermediate_size", tiny ? 48 : 512},
                    {"num_local_experts", tiny ? 8 : 16},
                    {"num_experts_per_tok", 2},
                    {"sliding_window", nullptr},
                    {"router_jitter_noise", 0.0},
                    {"router_aux_loss_coef", 0.001},
                    {"output_router_logits", false},
                    {"rms_norm_eps", 1e-5},
                    {"rope_theta", 1000000.0}});
}

}  // namespace

const Family& mixtral_family() {
  static const Family family{"mixtral", decoder_info<Config>, preset, build_decoder<Config>};
  return family;
}

}  // namespace sutor
