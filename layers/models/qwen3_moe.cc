// Qwen3-MoE: grouped-query attention with per-head q/k norm, softmax routing with renormalised
// top-k, sparse step. Numerics as transformers 5.23.0, models/qwen3_moe.
#include <algorithm>

#include "layers/causal_model.h"
#include "layers/config_reader.h"
#include "layers/models/families.h"
#include "layers/models/name_table.h"
#include "layers/moe_layer.h"

namespace sutor {
namespace {

struct Config {
  int64_t hidden, vocab, layers, heads, kv_heads, head_dim;
  int64_t dense_width, expert_width, num_experts, top_k, sparse_step;
  std::vector<int64_t> mlp_only;
  bool attention_bias, tied, renormalize;
  double norm_eps;
  RopeConfig rope;

  explicit Config(const nlohmann::json& json) {
    const ConfigReader in(json);
    hidden = in.integer({"hidden_size"});
    vocab = in.integer({"vocab_size"});
    layers = in.integer({"num_hidden_layers"});
    heads = in.integer({"num_attention_heads"});
    kv_heads = in.integer_or({"num_key_value_heads"}, heads);
    head_dim = in.integer_or({"head_dim"}, hidden / heads);
    dense_width = in.integer({"intermediate_size"});
    expert_width = in.integer({"moe_intermediate_size"});
    num_experts = in.integer({"num_experts", "num_local_experts"});
    top_k = in.integer({"num_experts_per_tok"});
    sparse_step = in.integer_or({"decoder_sparse_step"}, 1);
    mlp_only = in.integers_or_empty({"mlp_only_layers"});
    attention_bias = in.flag_or({"attention_bias"}, false);
    tied = in.flag_or({"tie_word_embeddings"}, false);
    renormalize = in.flag_or({"norm_topk_prob"}, false);
    norm_eps = in.number_or({"rms_norm_eps"}, 1e-6);
    rope = in.rope(10000.0);
    in.require_text("hidden_act", "silu");
    if (in.flag_or({"use_sliding_window"}, false)) {
      in.unsupported("use_sliding_window", "attention is over the whole document");
    }
    if (heads % kv_heads != 0) in.unsupported("num_key_value_heads", "it must divide the heads");
    if (head_dim % 2 != 0) in.unsupported("head_dim", "it must be even");
    if (sparse_step < 1) in.unsupported("decoder_sparse_step", "it must be 1 or more");
    if (top_k > num_experts) in.unsupported("num_experts_per_tok", "more than there are experts");
  }

  bool is_moe(int64_t layer) const {
    return std::find(mlp_only.begin(), mlp_only.end(), layer) == mlp_only.end() &&
           (layer + 1) % sparse_step == 0;
  }
};

void add_attention_names(NameTable& names, const Config& c, const std::string& prefix, int layer) {
  const auto linear = [&](const char* name, int64_t out, int64_t in, const TensorSplit& split) {
    names.add(prefix + name + ".weight", {out, in}, TensorRole::kAttention, layer, split);
    if (!c.attention_bias) return;
    const bool by_rows = split.axis == TensorSplit::Axis::kRows;
    names.add(prefix + name + ".bias", {out}, TensorRole::kAttention, layer,
              by_rows ? split : TensorSplit());
  };
  linear(".q_proj", c.heads * c.head_dim, c.hidden, rows(c.heads, "heads"));
  linear(".k_proj", c.kv_heads * c.head_dim, c.hidden, rows(c.kv_heads, "key-value heads"));
  linear(".v_proj", c.kv_heads * c.head_dim, c.hidden, rows(c.kv_heads, "key-value heads"));
  linear(".o_proj", c.hidden, c.heads * c.head_dim, columns(c.heads, "heads"));
  names.add(prefix + ".q_norm.weight", {c.head_dim}, TensorRole::kAttention, layer);
  names.add(prefix + ".k_norm.weight", {c.head_dim}, TensorRole::kAttention, layer);
}

ModelInfo info(const nlohmann::json& json) {
  const Config c(json);
  ModelInfo model{.family = "qwen3_moe", .num_layers = static_cast<int>(c.layers)};
  model.hidden_size = c.hidden;
  model.vocab_size = c.vocab;
  model.num_experts = static_cast<int>(c.num_experts);
  model.top_k = static_cast<int>(c.top_k);
  model.expert_width = c.expert_width;
  model.tied_head = c.tied;
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
  }
  names.add("model.norm.weight", {c.hidden}, TensorRole::kNorm);
  if (!c.tied) names.vocabulary("lm_head.weight", c.vocab, c.hidden, TensorRole::kHead);
  return model;
}

std::unique_ptr<CausalModel> build(const nlohmann::json& json, ParameterStore& store) {
  const Config c(json);
  auto model = std::make_unique<CausalModel>(
      store, std::make_unique<Rope>(c.rope, c.head_dim, RopeStyle::kHalf), c.norm_eps);
  const GqaOptions attention{.heads = c.heads,
                             .kv_heads = c.kv_heads,
                             .head_dim = c.head_dim,
                             .qk_norm = true,
                             .norm_eps = c.norm_eps};
  RouterOptions router{.top_k = static_cast<int>(c.top_k)};
  router.renormalize = c.renormalize;
  for (const int layer : model->layers()) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    std::unique_ptr<FeedForward> feed_forward;
    if (c.is_moe(layer)) {
      feed_forward = std::make_unique<MoeLayer>(store, layer, prefix + ".mlp", router, "");
    } else {
      feed_forward = std::make_unique<DenseFeedForward>(store, prefix + ".mlp");
    }
    model->add_layer({RmsNorm(store, prefix + ".input_layernorm.weight", c.norm_eps),
                      make_gqa_attention(store, prefix + ".self_attn", attention, model->rope()),
                      RmsNorm(store, prefix + ".post_attention_layernorm.weight", c.norm_eps),
                      std::move(feed_forward)});
  }
  return model;
}

nlohmann::json preset(std::string_view size) {
  const bool tiny = size == "tiny";
  return {{"architectures", {"Qwen3MoeForCausalLM"}},
          {"model_type", "qwen3_moe"},
          {"vocab_size", tiny ? 512 : 32000},
          {"hidden_size", tiny ? 64 : 512},
          {"num_hidden_layers", tiny ? 3 : 6},
          {"num_attention_heads", tiny ? 4 : 8},
          {"num_key_value_heads", 2},
          {"head_dim", tiny ? 16 : 64},
          {"intermediate_size", tiny ? 96 : 2048},
          {"moe_intermediate_size", tiny ? 32 : 256},
          {"num_experts", tiny ? 8 : 64},
          {"num_experts_per_tok", tiny ? 3 : 6},
          {"norm_topk_prob", true},
          {"decoder_sparse_step", 1},
          {"mlp_only_layers", nlohmann::json::array()},
          {"router_aux_loss_coef", 0.001},
          {"output_router_logits", false},
          {"hidden_act", "silu"},
          {"attention_bias", false},
          {"attention_dropout", 0.0},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000.0},
          {"rope_scaling", nullptr},
          {"use_sliding_window", false},
          {"max_position_embeddings", 4096},
          {"initializer_range", 0.02},
          {"tie_word_embeddings", false},
          {"use_cache", true},
          {"bos_token_id", 0},
          {"eos_token_id", 1},
          {"torch_dtype", "float32"}};
}

}  // namespace

const Family& qwen3_moe_family() {
  static const Family family{"qwen3_moe", info, preset, build};
  return family;
}

}  // namespace sutor
