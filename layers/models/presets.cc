#include "layers/models/presets.h"

namespace sutor {

nlohmann::json preset_of(std::string_view size, std::string_view architecture,
                         std::string_view model_type, const nlohmann::json& own) {
  const bool tiny = size == "tiny";
  nlohmann::json config = {{"architectures", nlohmann::json::array({architecture})},
                           {"model_type", model_type},
                           {"vocab_size", tiny ? 512 : 32000},
                           {"hidden_size", tiny ? 64 : 512},
                           {"num_hidden_layers", tiny ? 3 : 6},
                           {"num_attention_heads", tiny ? 4 : 8},
                           {"num_key_value_heads", 2},
                           {"hidden_act", "silu"},
                           {"attention_dropout", 0.0},
                           {"rms_norm_eps", 1e-6},
                           {"rope_theta", 10000.0},
                           {"rope_scaling", nullptr},
                           {"max_position_embeddings", 4096},
                           {"initializer_range", 0.02},
                           {"tie_word_embeddings", false},
                           {"use_cache", true},
                           {"bos_token_id", 0},
                           {"eos_token_id", 1},
                           {"torch_dtype", "float32"}};
  config.update(own);
  return config;
}

nlohmann::json deepseek_preset_of(std::string_view size, std::string_view architecture,
                                  std::string_view model_type, double mscale,
                                  const nlohmann::json& own) {
  const bool tiny = size == "tiny";
  nlohmann::json yarn = {{"type", "yarn"},
                         {"factor", 40.0},
                         {"beta_fast", 32},
                         {"beta_slow", 1},
                         {"mscale", mscale},
                         {"mscale_all_dim", mscale},
                         {"original_max_position_embeddings", tiny ? 64 : 1024}};
  nlohmann::json config = preset_of(size, architecture, model_type,
                                    {{"num_key_value_heads", tiny ? 4 : 8},
                                     {"kv_lora_rank", tiny ? 32 : 128},
                                     {"qk_nope_head_dim", tiny ? 16 : 64},
                                     {"qk_rope_head_dim", tiny ? 8 : 32},
                                     {"v_head_dim", tiny ? 16 : 64},
                                     {"intermediate_size", tiny ? 96 : 1408},
                                     {"moe_intermediate_size", tiny ? 32 : 256},
                                     {"n_routed_experts", tiny ? 8 : 64},
                                     {"num_experts_per_tok", tiny ? 3 : 6},
                                     {"first_k_dense_replace", 1},
                                     {"moe_layer_freq", 1},
                                     {"attention_bias", false},
                                     {"rope_scaling", yarn}});
  config.update(own);
  return config;
}

}  // namespace sutor
