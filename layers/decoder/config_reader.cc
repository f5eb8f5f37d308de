#include "layers/decoder/config_reader.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "csrc/base/error.h"

namespace sutor {
namespace {

std::string first_name(ConfigReader::Names names) { return std::string(*names.begin()); }

// Where transformers takes null for "none", or does not read the key at all.
constexpr std::string_view kNullable[] = {
    "attention_factor", "beta_fast",       "beta_slow",    "clip_qkv",       "layer_types",
    "mlp_only_layers",  "moe_layer_freq",  "mscale",       "mscale_all_dim", "per_layer_config",
    "q_lora_rank",      "rope_parameters", "rope_scaling", "scoring_func",   "sliding_window",
    "text_config",      "topk_method"};

}  // namespace

ConfigReader::ConfigReader(const nlohmann::json& config, nlohmann::json defaults,
                           std::vector<std::string_view> nullable)
    : config_(config), defaults_(std::move(defaults)), nullable_(std::move(nullable)) {
  if (!config.is_object()) fail(ErrorCode::kBadModelConfig, "config.json should hold an object");
  family_ = text_or({"model_type"}, "");
}

bool ConfigReader::may_be_null(std::string_view name) const {
  return std::find(std::begin(kNullable), std::end(kNullable), name) != std::end(kNullable) ||
         std::find(nullable_.begin(), nullable_.end(), name) != nullable_.end();
}

const nlohmann::json* ConfigReader::find(Names names) const {
  bool is_null = false;
  auto found = config_.end();
  for (const std::string_view name : names) {
    const auto it = config_.find(std::string(name));
    if (it == config_.end()) continue;
    if (it->is_null()) {
      if (!may_be_null(name)) {
        fail(ErrorCode::kBadModelConfig,
             "config.json: `{}` is null, which means nothing here. Leave it out to have the "
             "family's default, or give it a value.",
             name);
      }
      is_null = true;
    } else if (found == config_.end()) {
      found = it;
    } else if (*found != *it) {
      fail(ErrorCode::kBadModelConfig,
           "config.json: `{}` = {} and `{}` = {} say the same thing differently. Remove the one "
           "that is wrong.",
           found.key(), found->dump(), name, it->dump());
    }
  }
  if (found != config_.end()) return &*found;
  if (is_null) return nullptr;
  for (const std::string_view name : names) {
    const auto it = defaults_.find(std::string(name));
    if (it != defaults_.end()) return &*it;
  }
  return nullptr;
}

void ConfigReader::wrong_type(Names names, std::string_view expected,
                              const nlohmann::json& found) const {
  std::string name = first_name(names);
  for (const std::string_view alias : names) {
    const auto it = config_.find(std::string(alias));
    if (it == config_.end() || &*it != &found) continue;
    name = alias;
    break;
  }
  fail(ErrorCode::kBadModelConfig, "config.json: `{}` should be {}, found {}", name, expected,
       found.dump());
}

bool ConfigReader::has(std::string_view name) const { return find({name}) != nullptr; }

int64_t ConfigReader::integer(Names names, int64_t most) const {
  if (find(names) == nullptr) {
    fail(ErrorCode::kBadModelConfig, "config.json: `{}` is missing", first_name(names));
  }
  return integer_or(names, 0, 1, most);
}

int64_t ConfigReader::integer_or(Names names, int64_t fallback, int64_t least, int64_t most) const {
  const nlohmann::json* value = find(names);
  if (value == nullptr) return fallback;
  const auto in_range = [&] {
    if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(most)) {
      return false;
    }
    const auto number = value->get<int64_t>();
    return number >= least && number <= most;
  };
  if (!value->is_number_integer() || !in_range()) {
    wrong_type(names, fmt::format("an integer from {} to {}", least, most), *value);
  }
  return value->get<int64_t>();
}

double ConfigReader::number_or(Names names, double fallback) const {
  const nlohmann::json* value = find(names);
  if (value == nullptr) return fallback;
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    wrong_type(names, "a number", *value);
  }
  return value->get<double>();
}

double ConfigReader::positive_or(Names names, double fallback, double most) const {
  const double number = number_or(names, fallback);
  if (find(names) != nullptr && !(number > 0 && number <= most)) {
    wrong_type(names, fmt::format("a number above 0 and at most {}", most), *find(names));
  }
  return number;
}

bool ConfigReader::flag_or(Names names, bool fallback) const {
  const nlohmann::json* value = find(names);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) wrong_type(names, "true or false", *value);
  return value->get<bool>();
}

std::string ConfigReader::text_or(Names names, const std::string& fallback) const {
  const nlohmann::json* value = find(names);
  if (value == nullptr) return fallback;
  if (!value->is_string()) wrong_type(names, "a string", *value);
  return value->get<std::string>();
}

std::vector<int64_t> ConfigReader::integers_or_empty(Names names) const {
  const nlohmann::json* value = find(names);
  if (value == nullptr) return {};
  if (!value->is_array()) wrong_type(names, "a list of integers", *value);
  std::vector<int64_t> result;
  for (const auto& item : *value) {
    if (!item.is_number_integer() || item > int64_t{INT64_MAX}) {
      wrong_type(names, "a list of integers", *value);
    }
    result.push_back(item.get<int64_t>());
  }
  return result;
}

std::vector<std::string> ConfigReader::texts_or_empty(Names names) const {
  const nlohmann::json* value = find(names);
  if (value == nullptr) return {};
  if (!value->is_array()) wrong_type(names, "a list of texts", *value);
  std::vector<std::string> result;
  for (const auto& item : *value) {
    if (!item.is_string()) wrong_type(names, "a list of texts", *value);
    result.push_back(item.get<std::string>());
  }
  return result;
}

void ConfigReader::contradictory(std::string_view key, const std::string& reason) const {
  const nlohmann::json* value = find({key});
  fail(ErrorCode::kBadModelConfig, "config.json: `{}` = {}: {}", key,
       value ? value->dump() : "null", reason);
}

void ConfigReader::unsupported(std::string_view key, const std::string& reason) const {
  const nlohmann::json* value = find({key});
  fail(ErrorCode::kUnsupportedModel, "config.json: `{}` = {} is not supported for {}: {}", key,
       value ? value->dump() : "null", family_, reason);
}

void ConfigReader::require_text(std::string_view key, std::string_view wanted) const {
  if (text_or({key}, std::string(wanted)) != wanted) {
    unsupported(key, fmt::format("only \"{}\" is", wanted));
  }
}

void ConfigReader::require_flag(std::string_view key, bool wanted) const {
  if (flag_or({key}, wanted) != wanted) unsupported(key, fmt::format("only {} is", wanted));
}

void ConfigReader::require_number(std::string_view key, double wanted) const {
  if (number_or({key}, wanted) != wanted) unsupported(key, fmt::format("only {} is", wanted));
}

void ConfigReader::require_full_attention() const {
  require_flag("use_sliding_window", false);
  const std::vector<std::string> types = texts_or_empty({"layer_types"});
  if (!types.empty() && static_cast<int64_t>(types.size()) != integer({"num_hidden_layers"})) {
    contradictory("layer_types", "there must be one for each layer");
  }
  for (const std::string& type : types) {
    if (type != "full_attention") unsupported("layer_types", "only \"full_attention\" is");
  }
}

}  // namespace sutor
