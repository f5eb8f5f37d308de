#include "layers/decoder/decoder.h"

#include <algorithm>
#include <cmath>

#include "csrc/base/error.h"

namespace sutor {
namespace {

// Tensors are counted out by name before a file is looked at: some hundred bytes for each matrix of
// each expert. The largest models have some twenty thousand experts.
constexpr int64_t kMostExpertsInAll = int64_t{1} << 17;
// Beyond this their bytes would not fit into 64 bits, and no file holds them.
constexpr double kMostParameters = 1e14;

}  // namespace

Decoder::Decoder(const ConfigReader& in, ConfigReader::Names experts)
    : family(in.family()),
      hidden(in.integer({"hidden_size"})),
      vocab(in.integer({"vocab_size"})),
      num_experts(in.integer(experts, ConfigReader::kMostExperts)),
      top_k(in.integer({"num_experts_per_tok"}, ConfigReader::kMostExperts)),
      tied(in.flag_or({"tie_word_embeddings"}, false)),
      norm{.eps = in.positive_or({"rms_norm_eps"}, 1e-6, 1)},
      moe_layer(static_cast<size_t>(in.integer({"num_hidden_layers"}, ConfigReader::kMostLayers)),
                true) {
  moe.router.top_k = static_cast<int>(top_k);
  in.require_text("hidden_act", "silu");
  in.require_number("attention_dropout", 0);
  in.require_flag("mlp_bias", false);
  in.require_flag("is_causal", true);
  if (in.has("per_layer_config")) in.unsupported("per_layer_config", "all layers are alike");
  if (in.has("text_config")) {
    in.unsupported("text_config", "give the config.json of the text model alone");
  }
  in.integer_or({"max_position_embeddings"}, 0, 1, ConfigReader::kMostLong);
  if (top_k > num_experts) in.contradictory("num_experts_per_tok", "more than there are experts");
  if (num_layers() * num_experts > kMostExpertsInAll) {
    in.contradictory(
        "num_hidden_layers",
        fmt::format("{} layers of {} experts would be {} experts; at most {} are "
                    "possible in a model",
                    num_layers(), num_experts, num_layers() * num_experts, kMostExpertsInAll));
  }
}

void Decoder::read_dense_then_shared(const ConfigReader& in) {
  dense_width = in.integer({"intermediate_size"});
  expert_width = in.integer({"moe_intermediate_size"});
  shared_width = expert_width * in.integer({"n_shared_experts"}, ConfigReader::kMostExperts);
  moe.shared = "shared_experts";
  if (in.integer_or({"moe_layer_freq"}, 1) != 1) {
    in.unsupported("moe_layer_freq", "every layer after the dense ones routes");
  }
  const int64_t dense = in.integer_or({"first_k_dense_replace"}, 0);
  if (dense > num_layers()) {
    in.contradictory("first_k_dense_replace", fmt::format("the model has {} layers", num_layers()));
  }
  for (int64_t i = 0; i < dense; ++i) moe_layer[i] = false;
}

void Decoder::read_sparse_step(const ConfigReader& in) {
  const int64_t step = in.integer_or({"decoder_sparse_step"}, 1, 1);
  for (int64_t i = 0; i < num_layers(); ++i) moe_layer[i] = (i + 1) % step == 0;
  for (const int64_t i : in.integers_or_empty({"mlp_only_layers"})) {
    if (i < 0 || i >= num_layers()) {
      in.contradictory("mlp_only_layers", fmt::format("there is no layer {}; layers are 0 to {}", i,
                                                      num_layers() - 1));
    }
    moe_layer[i] = false;
  }
}

void Decoder::read_groups(const ConfigReader& in, int best) {
  const int64_t groups = in.integer({"n_group"}), chosen = in.integer({"topk_group"});
  if (num_experts % groups != 0) in.contradictory("n_group", "it must divide the experts");
  const int64_t each = num_experts / groups;
  if (each < best) in.contradictory("n_group", "a group has fewer experts than its score sums");
  if (chosen > groups) in.contradictory("topk_group", "more than there are groups");
  if (chosen * each < top_k) {
    in.contradictory("topk_group", "the chosen groups have fewer experts than num_experts_per_tok");
  }
  moe.router.num_groups = static_cast<int>(groups);
  moe.router.topk_group = static_cast<int>(chosen);
  moe.router.group_best = best;
}

void Decoder::read_sigmoid_routing(const ConfigReader& in) {
  in.require_text("scoring_func", "sigmoid");
  in.require_text("topk_method", "noaux_tc");
  RouterOptions& router = moe.router;
  router.scoring = RouterScoring::kSigmoid;
  router.fp32_logits = router.fp32_weights = true;
  router.correction_bias = true;
  router.renormalize = in.flag_or({"norm_topk_prob"}, true);
  router.renormalize_epsilon = 1e-20;
  router.scale = in.positive_or({"routed_scaling_factor"}, 1.0);
  if (in.integer({"n_group"}) > 1) read_groups(in, 2);
}

namespace {

void check_parameters(const ModelInfo& model) {
  double parameters = 0;
  for (const TensorEntry& tensor : model.tensors.entries()) {
    double elements = 1;
    for (const int64_t size : tensor.shape) elements *= static_cast<double>(size);
    parameters += elements;
  }
  if (parameters <= kMostParameters) return;
  fail(ErrorCode::kBadModelConfig,
       "config.json: its sizes together make a model of {:.3g} parameters (hidden_size {}, "
       "vocab_size {}, {} layers, {} experts); at most {:.0g} are possible",
       parameters, model.hidden_size, model.vocab_size, model.num_layers, model.num_experts,
       kMostParameters);
}

}  // namespace

ModelInfo Decoder::info(const AddAttention& add_attention) const {
  ModelInfo model{.family = family, .num_layers = num_layers()};
  model.hidden_size = hidden;
  model.vocab_size = vocab;
  model.num_experts = static_cast<int>(num_experts);
  model.top_k = static_cast<int>(top_k);
  model.expert_width = expert_width;
  model.tied_head = tied;
  model.router_groups = std::max(1, moe.router.num_groups);
  model.moe_layer = moe_layer;
  NameTable names(model.tensors);
  names.vocabulary("model.embed_tokens.weight", vocab, hidden, TensorRole::kEmbedding);
  for (int layer = 0; layer < num_layers(); ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    const std::string mlp = prefix + ".mlp", experts = prefix + "." + block;
    names.add(prefix + ".input_layernorm.weight", {hidden}, TensorRole::kNorm, layer);
    add_attention(names, prefix + ".self_attn", layer);
    names.add(prefix + ".post_attention_layernorm.weight", {hidden}, TensorRole::kNorm, layer);
    if (!model.is_moe(layer)) {
      names.mlp(mlp, hidden, dense_width, TensorRole::kDenseMlp, layer);
      continue;
    }
    const std::string router = "." + moe.gate;
    names.add(experts + router + ".weight", {num_experts, hidden}, TensorRole::kRouter, layer, {},
              block == "mlp" ? "" : mlp + router + ".weight");
    if (moe.router.bias) {
      names.add(experts + router + ".bias", {num_experts}, TensorRole::kRouter, layer);
    }
    if (moe.router.correction_bias) {
      names.add(experts + router + ".e_score_correction_bias", {num_experts},
                TensorRole::kCorrectionBias, layer);
    }
    const ExpertSizes sizes{num_experts, hidden, expert_width};
    if (expert_form == ExpertForm::kMatrices) {
      names.experts(experts + ".experts", mlp + ".experts", sizes, layer, expert_names);
    } else {
      names.transposed_experts(experts + ".experts", sizes, layer);
    }
    if (moe.shared.empty()) continue;
    names.mlp(experts + "." + moe.shared, hidden, shared_width, TensorRole::kSharedExpert, layer);
    if (moe.shared_gate.empty()) continue;
    names.add(experts + "." + moe.shared_gate + ".weight", {1, hidden}, TensorRole::kSharedExpert,
              layer);
  }
  names.add("model.norm.weight", {hidden}, TensorRole::kNorm);
  if (!tied) names.vocabulary("lm_head.weight", vocab, hidden, TensorRole::kHead);
  check_parameters(model);
  return model;
}

std::unique_ptr<CausalModel> Decoder::build(ParameterStore& store, std::unique_ptr<Rope> rope,
                                            const MakeAttention& make_attention) const {
  auto model = std::make_unique<CausalModel>(store, std::move(rope), norm);
  for (const int layer : model->layers()) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    std::unique_ptr<FeedForward> feed_forward;
    if (moe_layer[layer]) {
      feed_forward = std::make_unique<MoeLayer>(store, layer, prefix + "." + block, moe);
    } else {
      feed_forward = std::make_unique<DenseFeedForward>(store, prefix + ".mlp");
    }
    model->add_layer({RmsNorm(store, prefix + ".input_layernorm.weight", norm),
                      make_attention(store, prefix + ".self_attn", layer, model->rope()),
                      RmsNorm(store, prefix + ".post_attention_layernorm.weight", norm),
                      std::move(feed_forward)});
  }
  return model;
}

std::vector<int64_t> read_sliding_windows(const ConfigReader& in,
                                          const std::function<bool(int64_t layer)>& slides) {
  const int64_t layers = in.integer({"num_hidden_layers"}, ConfigReader::kMostLayers);
  const int64_t sliding_window = in.integer_or({"sliding_window"}, 0, 0, ConfigReader::kMostLong);
  const std::vector<std::string> types = in.texts_or_empty({"layer_types"});
  if (!types.empty() && static_cast<int64_t>(types.size()) != layers) {
    in.contradictory("layer_types", "there must be one for each layer");
  }
  std::vector<int64_t> sliding_windows;
  for (int64_t i = 0; i < layers; ++i) {
    bool has_sliding_window = types.empty() && slides(i);
    if (!types.empty()) {
      const std::string& type = types[static_cast<size_t>(i)];
      has_sliding_window = type == "sliding_attention";
      if (!has_sliding_window && type != "full_attention") {
        in.unsupported("layer_types", "types are \"sliding_attention\" and \"full_attention\"");
      }
    }
    if (has_sliding_window && sliding_window < 1)
      in.contradictory("sliding_window", "it must be 1 or more");
    sliding_windows.push_back(has_sliding_window ? sliding_window : 0);
  }
  return sliding_windows;
}

std::vector<int64_t> read_switched_sliding_windows(
    const ConfigReader& in, const std::function<bool(int64_t layer)>& slides) {
  if (in.flag_or({"use_sliding_window"}, false)) return read_sliding_windows(in, slides);
  in.require_full_attention();
  return {};
}

GqaConfig::GqaConfig(const ConfigReader& in, double default_theta,
                     std::optional<double> default_partial)
    : GqaConfig(in, in.rope(default_theta, default_partial), {}) {
  in.require_full_attention();
}

GqaConfig::GqaConfig(const ConfigReader& in, const RopeConfig& rotation,
                     std::vector<int64_t> layer_sliding_windows)
    : hidden(in.integer({"hidden_size"})),
      heads(in.integer({"num_attention_heads"}, ConfigReader::kMostHeads)),
      kv_heads(in.integer_or({"num_key_value_heads"}, heads, 1, ConfigReader::kMostHeads)),
      head_dim(in.integer_or({"head_dim"}, hidden / heads, 1)),
      norm{.eps = in.positive_or({"rms_norm_eps"}, 1e-6, 1)},
      rope(rotation),
      sliding_windows(std::move(layer_sliding_windows)) {
  if (heads % kv_heads != 0) in.contradictory("num_key_value_heads", "it must divide the heads");
  if (!in.has("head_dim") && hidden % heads != 0) {
    in.contradictory("num_attention_heads", fmt::format("they do not divide hidden_size = {}, and "
                                                        "there is no head_dim",
                                                        hidden));
  }
  if (head_dim < 2 || head_dim % 2 != 0) in.contradictory("head_dim", "it must be even");
  const auto rotated = static_cast<int64_t>(static_cast<double>(head_dim) * rope.partial);
  if (rotated < 2 || rotated % 2 != 0) {
    in.contradictory("partial_rotary_factor", "the number of rotated dimensions must be even");
  }
}

void GqaConfig::add_names(NameTable& names, const std::string& prefix, int layer) const {
  const TensorSplit q_heads = rows(heads, "heads"), k_heads = rows(kv_heads, "key-value heads");
  const TensorRole role = TensorRole::kAttention;
  const int64_t q_rows = heads * head_dim, kv_rows = kv_heads * head_dim;
  names.linear(prefix + ".q_proj", q_rows, hidden, qkv_bias, role, layer, q_heads);
  names.linear(prefix + ".k_proj", kv_rows, hidden, qkv_bias, role, layer, k_heads);
  names.linear(prefix + ".v_proj", kv_rows, hidden, qkv_bias, role, layer, k_heads);
  names.linear(prefix + ".o_proj", hidden, q_rows, o_bias, role, layer, columns(heads, "heads"));
  if (sinks) names.add(prefix + ".sinks", {heads}, role, layer, q_heads);
  if (qk_norm == QkNorm::kNone) return;
  const bool all_heads = qk_norm == QkNorm::kAllHeads;
  names.add(prefix + ".q_norm.weight", {all_heads ? q_rows : head_dim}, role, layer,
            all_heads ? q_heads : TensorSplit());
  names.add(prefix + ".k_norm.weight", {all_heads ? kv_rows : head_dim}, role, layer,
            all_heads ? k_heads : TensorSplit());
}

std::unique_ptr<Rope> GqaConfig::make_rope() const {
  const auto rotated = static_cast<int64_t>(static_cast<double>(head_dim) * rope.partial);
  return std::make_unique<Rope>(rope, rotated, RopeStyle::kHalf);
}

std::unique_ptr<Attention> GqaConfig::make(ParameterStore& store, const std::string& prefix,
                                           int layer, const Rope& with) const {
  const GqaOptions options{
      .heads = heads,
      .kv_heads = kv_heads,
      .head_dim = head_dim,
      .qk_norm = qk_norm,
      .norm = norm,
      .clip = clip,
      .sliding_window = sliding_windows.empty() ? 0 : sliding_windows[static_cast<size_t>(layer)],
      .sinks = sinks};
  return make_gqa_attention(store, prefix, options, with);
}

MlaConfig::MlaConfig(const ConfigReader& in)
    : hidden(in.integer({"hidden_size"})),
      heads(in.integer({"num_attention_heads"}, ConfigReader::kMostHeads)),
      q_lora_rank(in.integer_or({"q_lora_rank"}, 0, 1)),  // null: none
      kv_lora_rank(in.integer({"kv_lora_rank"})),
      nope_dim(in.integer({"qk_nope_head_dim"})),
      rope_dim(in.integer({"qk_rope_head_dim"})),
      v_dim(in.integer({"v_head_dim"})),
      bias(in.flag_or({"attention_bias"}, false)),
      rope(in.rope(10000.0)) {
  if (rope_dim % 2 != 0) in.contradictory("qk_rope_head_dim", "it must be even");
}

double MlaConfig::softmax_scale() const {
  const double scale = 1.0 / std::sqrt(static_cast<double>(nope_dim + rope_dim));
  if (rope.type == "default" || rope.mscale_all_dim == 0) return scale;
  const double m = RopeConfig::mscale_of(rope.factor, rope.mscale_all_dim);
  return scale * m * m;
}

void MlaConfig::add_names(NameTable& names, const std::string& prefix, int layer) const {
  const TensorRole role = TensorRole::kAttention;
  const TensorSplit by_head = rows(heads, "heads");
  const int64_t q_rows = heads * (nope_dim + rope_dim);
  if (q_lora_rank > 0) {
    names.linear(prefix + ".q_a_proj", q_lora_rank, hidden, bias, role, layer);
    names.add(prefix + ".q_a_layernorm.weight", {q_lora_rank}, role, layer);
    names.linear(prefix + ".q_b_proj", q_rows, q_lora_rank, false, role, layer, by_head);
  } else {
    names.linear(prefix + ".q_proj", q_rows, hidden, false, role, layer, by_head);
  }
  names.linear(prefix + ".kv_a_proj_with_mqa", kv_lora_rank + rope_dim, hidden, bias, role, layer);
  names.add(prefix + ".kv_a_layernorm.weight", {kv_lora_rank}, role, layer);
  names.linear(prefix + ".kv_b_proj", heads * (nope_dim + v_dim), kv_lora_rank, false, role, layer,
               by_head);
  names.linear(prefix + ".o_proj", hidden, heads * v_dim, bias, role, layer,
               columns(heads, "heads"));
}

std::unique_ptr<Rope> MlaConfig::make_rope() const {
  return std::make_unique<Rope>(rope, rope_dim, rope_style);
}

std::unique_ptr<Attention> MlaConfig::make(ParameterStore& store, const std::string& prefix, int,
                                           const Rope& with) const {
  const MlaOptions options{.heads = heads,
                           .nope_dim = nope_dim,
                           .rope_dim = rope_dim,
                           .v_dim = v_dim,
                           .kv_lora_rank = kv_lora_rank,
                           .q_lora = q_lora_rank > 0,
                           .scale = softmax_scale()};
  return make_mla_attention(store, prefix, options, with);
}

}  // namespace sutor
