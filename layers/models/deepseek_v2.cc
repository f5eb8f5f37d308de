// DeepSeek-V2 and V2-Lite (arXiv 2405.04434): latent attention with or without q_lora, softmax
// routing (greedy or group-limited, never renormalised), shared experts, dense first layers.
// Numerics as transformers 5.23.0, models/deepseek_v2.
#include <cmath>

#include "layers/causal_model.h"
#include "layers/config_reader.h"
#include "layers/models/families.h"
#include "layers/models/name_table.h"
#include "layers/moe_layer.h"

namespace sutor {
namespace {

struct Config {
  int64_t hidden, vocab, layers, heads;
  int64_t q_lora_rank, kv_lora_rank, nope_dim, rope_dim, v_dim;
  int64_t dense_width, expert_width, num_experts, top_k, num_shared;
  int64_t first_dense;
  bool attention_bias, tied, group_limited;
  int64_t num_groups, topk_group;
  double routed_scale, norm_eps;
  RopeConfig rope;

  explicit Config(const nlohmann::json& json) {
    const ConfigReader in(json);
    hidden = in.integer({"hidden_size"});
    vocab = in.integer({"vocab_size"});
    layers = in.integer({"num_hidden_layers"});
    heads = in.integer({"num_attention_heads"});
    q_lora_rank = in.integer_or({"q_lora_rank"}, 0);  // null: no q_lora
    kv_lora_rank = in.integer({"kv_lora_rank"});
    nope_dim = in.integer({"qk_nope_head_dim"});
    rope_dim = in.integer({"qk_rope_head_dim"});
    v_dim = in.integer({"v_head_dim"});
    dense_width = in.integer({"intermediate_size"});
    expert_width = in.integer({"moe_intermediate_size"});
    num_experts = in.integer({"n_routed_experts", "num_experts"});
    top_k = in.integer({"num_experts_per_tok"});
    num_shared = in.integer({"n_shared_experts"});
    first_dense = in.integer_or({"first_k_dense_replace"}, 0);
    attention_bias = in.flag_or({"attention_bias"}, false);
    tied = in.flag_or({"tie_word_embeddings"}, false);
    routed_scale = in.number_or({"routed_scaling_factor"}, 1.0);
    norm_eps = in.number_or({"rms_norm_eps"}, 1e-6);
    rope = in.rope(10000.0);
    read_routing(in);
    in.require_text("hidden_act", "silu");
    in.require_text("scoring_func", "softmax");
    if (in.flag_or({"mlp_bias"}, false)) in.unsupported("mlp_bias", "MLPs have no bias");
    if (in.integer_or({"moe_layer_freq"}, 1) != 1) {
      in.unsupported("moe_layer_freq", "every layer after the dense ones routes");
    }
    if (rope_dim % 2 != 0) in.unsupported("qk_rope_head_dim", "it must be even");
    if (top_k > num_experts) in.unsupported("num_experts_per_tok", "more than there are experts");
  }

  void read_routing(const ConfigReader& in) {
    const std::string method = in.text_or({"topk_method"}, "greedy");
    if (method != "greedy" && method != "group_limited_greedy") {
      in.unsupported("topk_method", "greedy and group_limited_greedy are");
    }
    group_limited = method == "group_limited_greedy";
    num_groups = group_limited ? in.integer({"n_group"}) : 0;
    topk_group = group_limited ? in.integer({"topk_group"}) : 0;
    if (!group_limited) return;
    if (num_experts % num_groups != 0) in.unsupported("n_group", "it must divide the experts");
    if (topk_group > num_groups) in.unsupported("topk_group", "more than there are groups");
    if (topk_group * (num_experts / num_groups) < top_k) {
      in.unsupported("topk_group", "the chosen groups hold fewer experts than num_experts_per_tok");
    }
  }

  bool is_moe(int64_t layer) const { return layer >= first_dense; }

  // 1/sqrt(d) times the square of YaRN's attention factor for all dimensions.
  double softmax_scale() const {
    const double scale = 1.0 / std::sqrt(static_cast<double>(nope_dim + rope_dim));
    if (rope.type == "default" || rope.mscale_all_dim == 0) return scale;
    const double m = RopeConfig::mscale_of(rope.factor, rope.mscale_all_dim);
    return scale * m * m;
  }
};

void add_attention_names(NameTable& names, const Config& c, const std::string& prefix, int layer) {
  const auto add = [&](const char* name, std::vector<int64_t> shape, TensorSplit split = {}) {
    names.add(prefix + name, std::move(shape), TensorRole::kAttention, layer, split);
  };
  const TensorSplit by_head = rows(c.heads, "heads");
  const int64_t q_rows = c.heads * (c.nope_dim + c.rope_dim);
  if (c.q_lora_rank > 0) {
    add(".q_a_proj.weight", {c.q_lora_rank, c.hidden});
    if (c.attention_bias) add(".q_a_proj.bias", {c.q_lora_rank});
    add(".q_a_layernorm.weight", {c.q_lora_rank});
    add(".q_b_proj.weight", {q_rows, c.q_lora_rank}, by_head);
  } else {
    add(".q_proj.weight", {q_rows, c.hidden}, by_head);
  }
  add(".kv_a_proj_with_mqa.weight", {c.kv_lora_rank + c.rope_dim, c.hidden});
  if (c.attention_bias) add(".kv_a_proj_with_mqa.bias", {c.kv_lora_rank + c.rope_dim});
  add(".kv_a_layernorm.weight", {c.kv_lora_rank});
  add(".kv_b_proj.weight", {c.heads * (c.nope_dim + c.v_dim), c.kv_lora_rank}, by_head);
  add(".o_proj.weight", {c.hidden, c.heads * c.v_dim}, columns(c.heads, "heads"));
  if (c.attention_bias) add(".o_proj.bias", {c.hidden});
}

ModelInfo info(const nlohmann::json& json) {
  const Config c(json);
  ModelInfo model{.family = "deepseek_v2", .num_layers = static_cast<int>(c.layers)};
  model.hidden_size = c.hidden;
  model.vocab_size = c.vocab;
  model.num_experts = static_cast<int>(c.num_experts);
  model.top_k = static_cast<int>(c.top_k);
  model.expert_width = c.expert_width;
  model.tied_head = c.tied;
  if (c.group_limited) model.router_groups = static_cast<int>(c.num_groups);
  NameTable names(model.tensors);
  names.vocabulary("model.embed_tokens.weight", c.vocab, c.hidden, TensorRole::kEmbedding);
  for (int layer = 0; layer < model.num_layers; ++layer) {
    model.moe_layer.push_back(c.is_moe(layer));
    const std::string prefix = "model.layers." + std::to_string(layer);
    names.add(prefix + ".input_layernorm.weight", {c.hidden}, TensorRole::kNorm, layer);
    add_attention_names(names, c, prefix + ".self_attn", layer);
    names.add(prefix + ".post_attention_layernorm.weight", {c.hidden}, TensorRole::kNorm, layer);
    if (!c.is_moe(layer)) {
      names.mlp(prefix + ".mlp", c.hidden, c.dense_width, TensorRole::kDenseMlp, layer);
      continue;
    }
    names.add(prefix + ".mlp.gate.weight", {c.num_experts, c.hidden}, TensorRole::kRouter, layer);
    names.experts(prefix + ".mlp.experts", c.num_experts, c.hidden, c.expert_width, layer);
    names.mlp(prefix + ".mlp.shared_experts", c.hidden, c.expert_width * c.num_shared,
              TensorRole::kSharedExpert, layer);
  }
  names.add("model.norm.weight", {c.hidden}, TensorRole::kNorm);
  if (!c.tied) names.vocabulary("lm_head.weight", c.vocab, c.hidden, TensorRole::kHead);
  return model;
}

std::unique_ptr<CausalModel> build(const nlohmann::json& json, ParameterStore& store) {
  const Config c(json);
  auto model = std::make_unique<CausalModel>(
      store, std::make_unique<Rope>(c.rope, c.rope_dim, RopeStyle::kInterleaved), c.norm_eps);
  const MlaOptions attention{.heads = c.heads,
                             .nope_dim = c.nope_dim,
                             .rope_dim = c.rope_dim,
                             .v_dim = c.v_dim,
                             .kv_lora_rank = c.kv_lora_rank,
                             .q_lora = c.q_lora_rank > 0,
                             .scale = c.softmax_scale()};
  RouterOptions router{.top_k = static_cast<int>(c.top_k)};
  router.fp32_logits = true;
  router.fp32_weights = true;
  router.scale = c.routed_scale;
  router.num_groups = static_cast<int>(c.num_groups);
  router.topk_group = static_cast<int>(c.topk_group);
  for (const int layer : model->layers()) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    std::unique_ptr<FeedForward> feed_forward;
    if (c.is_moe(layer)) {
      feed_forward =
          std::make_unique<MoeLayer>(store, layer, prefix + ".mlp", router, "shared_experts");
    } else {
      feed_forward = std::make_unique<DenseFeedForward>(store, prefix + ".mlp");
    }
    model->add_layer({RmsNorm(store, prefix + ".input_layernorm.weight", c.norm_eps),
                      make_mla_attention(store, prefix + ".self_attn", attention, model->rope()),
                      RmsNorm(store, prefix + ".post_attention_layernorm.weight", c.norm_eps),
                      std::move(feed_forward)});
  }
  return model;
}

nlohmann::json preset(std::string_view size) {
  const bool tiny = size == "tiny";
  nlohmann::json yarn = {{"type", "yarn"},
                         {"factor", 40.0},
                         {"beta_fast", 32},
                         {"beta_slow", 1},
                         {"mscale", 0.707},
                         {"mscale_all_dim", 0.707},
                         {"original_max_position_embeddings", tiny ? 64 : 1024}};
  return {{"architectures", {"DeepseekV2ForCausalLM"}},
          {"model_type", "deepseek_v2"},
          {"vocab_size", tiny ? 512 : 32000},
          {"hidden_size", tiny ? 64 : 512},
          {"num_hidden_layers", tiny ? 3 : 6},
          {"num_attention_heads", tiny ? 4 : 8},
          {"num_key_value_heads", tiny ? 4 : 8},
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
          {"hidden_act", "silu"},
          {"attention_bias", false},
          {"attention_dropout", 0.0},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000},
          {"rope_scaling", yarn},
          {"max_position_embeddings", 4096},
          {"initializer_range", 0.02},
          {"tie_word_embeddings", false},
          {"use_cache", true},
          {"bos_token_id", 0},
          {"eos_token_id", 1},
          {"torch_dtype", "float32"}};
}

}  // namespace

const Family& deepseek_v2_family() {
  static const Family family{"deepseek_v2", info, preset, build};
  return family;
}

}  // namespace sutor
