// The keys of config.json that change a training. What they mean where they are missing is the
// family's; docs/config_keys.md has it, and a test compares.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "csrc/base/text/json.h"
#include "launch/start/config_view.h"
#include "layers/models/registry.h"

namespace sutor {
namespace {

using nlohmann::json;

bool is_one_of(std::string_view family, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), family) != names.end();
}

class Collector {
 public:
  Collector(const json& config, std::vector<ModelValue>& values)
      : config_(config), family_(config["model_type"].get<std::string>()), values_(values) {}

  const std::string& family() const { return family_; }
  bool of(std::initializer_list<std::string_view> families) const {
    return is_one_of(family_, families);
  }
  const json* find(std::string_view key) const {
    const auto found = config_.find(key);
    return found == config_.end() || found->is_null() ? nullptr : &*found;
  }
  // What config.json says.
  void said(std::string_view key, std::string effect) {
    if (const json* value = find(key)) add(key, dump_json(*value), "config.json", effect);
  }
  // The same, or the family's default.
  void value(std::string_view key, const json& otherwise, std::string effect) {
    if (find(key)) return said(key, effect);
    add(key, dump_json(otherwise), "default of " + family_, effect);
  }
  // What the family always does.
  void fixed(std::string_view key, const json& value, std::string effect) {
    add(key, dump_json(value), family_, effect);
  }

 private:
  void add(std::string_view key, std::string value, std::string origin, std::string effect) {
    values_.push_back({std::string(key), std::move(value), std::move(origin), std::move(effect)});
  }

  const json& config_;
  std::string family_;
  std::vector<ModelValue>& values_;
};

void add_routing(Collector& model) {
  model.said("num_experts_per_tok", "experts that a token is routed to");
  const bool is_v3 = model.of({"deepseek_v3", "kimi_k2"});
  const std::string normed = "whether the weights of these experts are divided by their sum";
  if (model.of({"mixtral", "gpt_oss"})) {
    model.fixed("norm_topk_prob", true, normed);
  } else if (model.of({"qwen2_moe", "qwen3_moe", "olmoe", "glm4_moe", "deepseek_v3", "kimi_k2"})) {
    model.value("norm_topk_prob", is_v3 || model.of({"glm4_moe"}), normed);
  }
  if (model.of({"glm4_moe", "deepseek_v2", "deepseek_v3", "kimi_k2"})) {
    model.value("routed_scaling_factor", is_v3 ? 2.5 : 1.0,
                "what routed experts give is multiplied by it");
    const std::string groups = "groups of experts, and how many of them a token may use";
    if (!model.of({"deepseek_v2"})) {
      model.value("n_group", is_v3 ? 8 : 1, groups);
      model.value("topk_group", is_v3 ? 4 : 1, groups);
    } else {
      model.said("n_group", groups);
      model.said("topk_group", groups);
      model.value("topk_method", "greedy", "how groups and experts are chosen");
    }
  }
  if (is_v3 || model.of({"glm4_moe"})) {
    model.fixed("e_score_correction_bias", true,
                "a bias of the choice of experts: never trained, kept by exports");
  }
}

// The run's own words on auxiliary losses, whatever config.json asks for.
void add_auxiliary_losses(Collector& model, const Recipe& recipe) {
  const double weight = recipe.train.balance_loss;
  const std::string counts = weight == 0
                                 ? "not used: no load-balance loss is added (train.balance_loss: 0)"
                                 : fmt::format("not used: train.balance_loss: {} counts", weight);
  for (const char* key : {"router_aux_loss_coef", "aux_loss_alpha"}) model.said(key, counts);
  model.said("seq_aux", weight == 0 ? "not used: no load-balance loss is added"
                        : recipe.train.balance_over == "auto"
                            ? "decides what the load-balance loss is a mean of"
                            : "not used: train.balance_over counts");
  model.said("router_z_loss_coef", "not used: there is no z-loss");
  model.said("output_router_logits", "not used: the run asks for what it needs");
}

void add_positions(Collector& model, const Recipe& recipe) {
  model.said("rope_theta", "base of the rotary positions");
  // transformers 4's section wins over that of 5.
  model.said(model.find("rope_scaling") ? "rope_scaling" : "rope_parameters",
             "rotary positions, as transformers computes them");
  const json* context = model.find("max_position_embeddings");
  if (context && context->is_number_integer()) {
    const int64_t most = context->get<int64_t>();
    model.said(
        "max_position_embeddings",
        fmt::format("longest context that the model knows; data.seq_len {} is {}",
                    recipe.data.seq_len, recipe.data.seq_len > most ? "BEYOND it" : "within it"));
  }
  const bool slides =
      model.of({"gpt_oss", "mixtral"}) ||
      (model.find("use_sliding_window") && *model.find("use_sliding_window") == true);
  if (slides) model.said("sliding_window", "tokens that attention of sliding layers looks back");
}

void add_weights(Collector& model, const Recipe& recipe) {
  if (model.find("tie_word_embeddings") && *model.find("tie_word_embeddings") == true) {
    model.said("tie_word_embeddings",
               "embedding and head are one tensor: they train or freeze "
               "together");
  }
  const char* dtype = model.find("dtype") ? "dtype" : "torch_dtype";
  model.said(dtype,
             fmt::format("of the file; the run computes in model.dtype: {}", recipe.model.dtype));
  if (const json* quantized = model.find("quantization_config")) {
    if (quantized->is_object() && quantized->contains("quant_method")) {
      model.fixed("quantization_config.quant_method", (*quantized)["quant_method"],
                  "weights are turned into model.dtype while they are read; export.quantized "
                  "decides how trained ones are written");
    }
  }
}

}  // namespace

std::vector<ModelValue> model_values(const json& config, const Recipe& recipe) {
  family_of(config).info(config);  // throws for what cannot be trained
  std::vector<ModelValue> values;
  Collector model(config, values);
  add_routing(model);
  add_auxiliary_losses(model, recipe);
  add_positions(model, recipe);
  add_weights(model, recipe);
  return values;
}

}  // namespace sutor
