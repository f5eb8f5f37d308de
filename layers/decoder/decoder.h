// What most families share: the stack of layers, each of attention and a dense MLP or a block of
// experts. A family fills in what its config.json says, and gets its name table and model.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "layers/decoder/causal_model.h"
#include "layers/decoder/config_reader.h"
#include "layers/decoder/name_table.h"
#include "layers/moe/moe_layer.h"

namespace sutor {

struct Decoder {
  // Reads the keys that mean the same in every family. Refuses activations other than SwiGLU's,
  // dropout, attention to later tokens, and values for single layers.
  // experts: the names that the family's class in transformers has for their number.
  Decoder(const ConfigReader& in, ConfigReader::Names experts);

  std::string family;
  int64_t hidden, vocab, num_experts, top_k;
  bool tied;
  NormOptions norm;
  std::vector<bool> moe_layer;  // [layers], all true

  // Filled in by the family.
  int64_t dense_width = 0, expert_width = 0, shared_width = 0;
  std::string block = "mlp";  // name of the experts' block in a layer; dense layers have an `mlp`
  ExpertNames expert_names{};
  ExpertForm expert_form = ExpertForm::kMatrices;
  MoeOptions moe{};  // top_k is filled in

  int num_layers() const { return static_cast<int>(moe_layer.size()); }

  // Adds the names of a layer's attention, under `prefix`.
  using AddAttention = std::function<void(NameTable&, const std::string& prefix, int layer)>;
  ModelInfo info(const AddAttention& add_attention) const;

  using MakeAttention = std::function<std::unique_ptr<Attention>(
      ParameterStore&, const std::string& prefix, int layer, const Rope& rope)>;
  std::unique_ptr<CausalModel> build(ParameterStore& store, std::unique_ptr<Rope> rope,
                                     const MakeAttention& make_attention) const;

  // The MoE layers: every `decoder_sparse_step`-th but the `mlp_only_layers`.
  void read_sparse_step(const ConfigReader& in);
  // The layers of DeepSeek and GLM: the first `first_k_dense_replace` are dense; the others have
  // experts of `moe_intermediate_size`, and one MLP that stands for `n_shared_experts`.
  void read_dense_then_shared(const ConfigReader& in);
  // Sigmoid scores, a correction bias, groups by their two best experts (`n_group`, `topk_group`),
  // `norm_topk_prob`, `routed_scaling_factor`: DeepSeek-V3 and those that route like it.
  void read_sigmoid_routing(const ConfigReader& in);
  // Reads and checks `n_group` and `topk_group`; the score of a group sums its `best` experts.
  void read_groups(const ConfigReader& in, int best);
};

// The sliding window of each layer, 0 for none: `sliding_window` where `layer_types` says so or,
// when config.json has no types, where `slides` does.
std::vector<int64_t> read_sliding_windows(const ConfigReader& in,
                                          const std::function<bool(int64_t layer)>& slides);
// The same where `use_sliding_window` is set; else none, and `layer_types` that ask for one are
// refused.
std::vector<int64_t> read_switched_sliding_windows(
    const ConfigReader& in, const std::function<bool(int64_t layer)>& slides);

// Grouped-query attention as config.json states it.
struct GqaConfig {
  // Refuses sliding windows. default_partial: see ConfigReader::rope().
  GqaConfig(const ConfigReader& in, double default_theta,
            std::optional<double> default_partial = {});
  // sliding_windows: one for each layer, 0 for none.
  GqaConfig(const ConfigReader& in, const RopeConfig& rope, std::vector<int64_t> sliding_windows);

  int64_t hidden, heads, kv_heads, head_dim;
  NormOptions norm;
  RopeConfig rope;
  std::vector<int64_t> sliding_windows{};  // [layers]; empty: none in any layer
  bool sinks = false;                      // one per head, see AttentionOptions
  bool qkv_bias = false, o_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  std::optional<double> clip{};

  void add_names(NameTable& names, const std::string& prefix, int layer) const;
  std::unique_ptr<Rope> make_rope() const;
  std::unique_ptr<Attention> make(ParameterStore& store, const std::string& prefix, int layer,
                                  const Rope& rope) const;
};

// Multi-head latent attention, with or without a latent of the queries (`q_lora_rank`).
struct MlaConfig {
  explicit MlaConfig(const ConfigReader& in);

  int64_t hidden, heads, q_lora_rank, kv_lora_rank, nope_dim, rope_dim, v_dim;
  bool bias;
  RopeConfig rope;
  RopeStyle rope_style = RopeStyle::kInterleaved;

  // 1/sqrt(d) times the square of YaRN's attention factor for all dimensions.
  double softmax_scale() const;
  void add_names(NameTable& names, const std::string& prefix, int layer) const;
  std::unique_ptr<Rope> make_rope() const;
  std::unique_ptr<Attention> make(ParameterStore& store, const std::string& prefix, int layer,
                                  const Rope& rope) const;
};

// The functions of a Family whose Config has a `decoder` and an `attention` like those above.
template <typename Config>
ModelInfo decoder_info(const nlohmann::json& json) {
  const Config c(json);
  return c.decoder.info([&c](NameTable& names, const std::string& prefix, int layer) {
    c.attention.add_names(names, prefix, layer);
  });
}

template <typename Config>
std::unique_ptr<CausalModel> build_decoder(const nlohmann::json& json, ParameterStore& store) {
  const Config c(json);
  return c.decoder.build(
      store, c.attention.make_rope(),
      [&c](ParameterStore& in, const std::string& prefix, int layer, const Rope& rope) {
        return c.attention.make(in, prefix, layer, rope);
      });
}

}  // namespace sutor
