// GPT-OSS 20B and 120B: grouped-query attention with biases, a sink per head, and a sliding window
// in every other layer; a router that takes the softmax over the chosen logits; experts with biases
// and a clamped activation, stacked and transposed on disk, or in MXFP4. Numerics as transformers
// 5.23.0, models/gpt_oss.
#include "layers/decoder/decoder.h"
#include "layers/models/families.h"
#include "layers/models/presets.h"

namespace sutor {
namespace {

// The rotation where config.json has no section for it.
const nlohmann::json kDefaultRope = {
    {"rope_type", "yarn"}, {"factor", 32.0},    {"beta_fast", 32.0},
    {"beta_slow", 1.0},    {"truncate", false}, {"original_max_position_embeddings", 4096}};

const nlohmann::json kDefaults = {{"num_key_value_heads", 8},
                                  {"head_dim", 64},
                                  {"sliding_window", 128},
                                  {"rms_norm_eps", 1e-5},
                                  {"max_position_embeddings", 131072}};

struct Config {
  Decoder decoder;
  GqaConfig attention;

  explicit Config(const nlohmann::json& json) : Config(ConfigReader(json, kDefaults)) {}
  explicit Config(const ConfigReader& in)
      : decoder(in, {"num_local_experts", "num_experts"}),
        attention(in, in.rope(150000.0, {}, kDefaultRope),
                  read_sliding_windows(in, [](int64_t layer) { return layer % 2 == 0; })) {
    decoder.norm.round_before_weight = false;
    decoder.expert_width = in.integer({"intermediate_size"});
    decoder.expert_form = ExpertForm::kTransposedStacks;
    decoder.moe.gate = "router";
    decoder.moe.router.scoring = RouterScoring::kSoftmaxChosen;
    decoder.moe.router.bias = true;
    decoder.moe.activation = {.alpha = static_cast<float>(in.positive_or({"swiglu_alpha"}, 1.702)),
                              .limit = static_cast<float>(in.positive_or({"swiglu_limit"}, 7.0)),
                              .up_offset = 1};
    attention.qkv_bias = attention.o_bias = in.flag_or({"attention_bias"}, true);
    attention.sinks = true;
  }
};

nlohmann::json preset(std::string_view size) {
  const bool tiny = size == "tiny";
  return preset_of(size, "GptOssForCausalLM", "gpt_oss",
                   {{"num_hidden_layers", tiny ? 4 : 6},
                    {"head_dim", tiny ? 16 : 64},
                    {"attention_bias", true},
                    {"sliding_window", tiny ? 16 : 128},
                    {"intermediate_size", tiny ? 32 : 256},
                    {"num_local_experts", tiny ? 8 : 32},
                    {"num_experts_per_tok", tiny ? 2 : 4},
                    {"swiglu_limit", 7.0},
                    {"router_aux_loss_coef", 0.9},
                    {"output_router_logits", false},
                    {"rms_norm_eps", 1e-5},
                    {"rope_theta", 150000.0},
                    {"rope_scaling",
                     {{"rope_type", "yarn"},
                      {"factor", 4.0},
                      {"beta_fast", 32.0},
                      {"beta_slow", 1.0},
                      {"truncate", false},
                      {"original_max_position_embeddings", 1024}}}});
}

}  // namespace

const Family& gpt_oss_family() {
  static const Family family{"gpt_oss", decoder_info<Config>, preset, build_decoder<Config>};
  return family;
}

}  // namespace sutor
