#include "layers/decoder/config_conflicts.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace sutor {
namespace {

using nlohmann::json;

class Conflicts {
 public:
  explicit Conflicts(const json& config) : config_(config) {}

  std::vector<std::string> all() {
    add_rope();
    add_pair("dtype", "torch_dtype");
    add_pair("num_experts_per_tok", "experts_per_token");
    add_experts();
    add_layer_types();
    return std::move(sentences_);
  }

 private:
  // The value of a key that is there and not null.
  static const json* value(const json& in, const char* key) {
    const auto at = in.find(key);
    return at == in.end() || at->is_null() ? nullptr : &*at;
  }

  void add(const std::string& counts, const json& counted, const std::string& ignored,
           const json& other) {
    sentences_.push_back(fmt::format(
        "config.json: `{}` = {} counts, and `{}` = {} does not, as in transformers. Remove it to "
        "say which one is meant.",
        counts, counted.dump(), ignored, other.dump()));
  }

  void add_pair(const char* counts, const char* ignored) {
    const json *one = value(config_, counts), *two = value(config_, ignored);
    if (one != nullptr && two != nullptr && *one != *two) add(counts, *one, ignored, *two);
  }

  // Aliases that a family reads have been compared; those that still differ are not read.
  void add_experts() {
    const json* found = value(config_, "model_type");
    const std::string family =
        found != nullptr && found->is_string() ? found->get<std::string>() : "";
    const char* counts = family == "mixtral" || family == "gpt_oss" ? "num_local_experts"
                         : value(config_, "n_routed_experts") != nullptr &&
                                 !family.starts_with("qwen") && family != "olmoe"
                             ? "n_routed_experts"
                             : "num_experts";
    for (const char* other : {"n_routed_experts", "num_local_experts", "num_experts"}) {
      if (std::string_view(counts) != other) add_pair(counts, other);
    }
  }

  void add_rope() {
    const json* scaling = value(config_, "rope_scaling");
    const json* parameters = value(config_, "rope_parameters");
    const bool old = scaling != nullptr && !scaling->empty();
    if (old && parameters != nullptr && *scaling != *parameters) {
      add("rope_scaling", *scaling, "rope_parameters", *parameters);
    }
    const json* section = old ? scaling : parameters;
    if (section == nullptr || !section->is_object()) return;
    const std::string name = old ? "rope_scaling." : "rope_parameters.";
    const json *type = value(*section, "rope_type"), *older = value(*section, "type");
    if (type != nullptr && older != nullptr && *type != *older) {
      add(name + "rope_type", *type, name + "type", *older);
    }
    for (const char* key : {"rope_theta", "partial_rotary_factor"}) {
      const json *inside = value(*section, key), *beside = value(config_, key);
      if (inside != nullptr && beside != nullptr && *inside != *beside) {
        add(name + key, *inside, key, *beside);
      }
    }
    const json* chosen = type != nullptr ? type : older;
    if (chosen == nullptr || *chosen != "yarn") return;
    const char* key = "original_max_position_embeddings";
    const json *inside = value(*section, key), *beside = value(config_, key);
    if (inside != nullptr && beside != nullptr && *inside != *beside) {
      add(key, *beside, name + key, *inside);
    }
  }

  // transformers 5 lists dense and sparse layers for other families.
  void add_layer_types() {
    const json* types = value(config_, "mlp_layer_types");
    const json* dense = value(config_, "first_k_dense_replace");
    if (types == nullptr || dense == nullptr || !types->is_array() || !dense->is_number_integer()) {
      return;
    }
    for (size_t i = 0; i < types->size(); ++i) {
      const bool is_dense = static_cast<int64_t>(i) < dense->get<int64_t>();
      if ((*types)[i] == (is_dense ? "dense" : "sparse")) continue;
      return add("first_k_dense_replace", *dense, "mlp_layer_types", *types);
    }
  }

  const json& config_;
  std::vector<std::string> sentences_;
};

}  // namespace

std::vector<std::string> doubled_config_keys(const json& config) { return Conflicts(config).all(); }

}  // namespace sutor
