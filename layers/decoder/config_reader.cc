#include "layers/decoder/config_reader.h"

#include <cmath>

#include "csrc/base/error.h"

namespace sutor {
namespace {

std::string first_name(ConfigReader::Names names) { return std::string(*names.begin()); }

[[noreturn]] void wrong_type(ConfigReader::Names names, std::string_view expected,
                             const nlohmann::json& found) {
  fail(ErrorCode::kBadModelConfig, "config.json: `{}` should be {}, found {}", first_name(names),
       expected, found.dump());
}

}  // namespace

double RopeConfig::mscale_of(double scale, double m) {
  return scale <= 1 ? 1.0 : 0.1 * m * std::log(scale) + 1.0;
}

double RopeConfig::cos_sin_factor() const {
  if (type != "yarn") return 1.0;
  if (attention_factor) return *attention_factor;
  if (mscale != 0 && mscale_all_dim != 0) {
    return mscale_of(factor, mscale) / mscale_of(factor, mscale_all_dim);
  }
  return mscale_of(factor, 1);
}

ConfigReader::ConfigReader(const nlohmann::json& config, nlohmann::json defaults)
    : config_(config), defaults_(std::move(defaults)) {
  if (!config.is_object()) fail(ErrorCode::kBadModelConfig, "config.json should hold an object");
  family_ = text_or({"model_type"}, "");
}

const nlohmann::json* ConfigReader::find(Names names) const {
  bool is_null = false;
  for (const std::string_view name : names) {
    const auto it = config_.find(std::string(name));
    if (it != config_.end() && !it->is_null()) return &*it;
    is_null |= it != config_.end();
  }
  if (is_null) return nullptr;
  for (const std::string_view name : names) {
    const auto it = defaults_.find(std::string(name));
    if (it != defaults_.end()) return &*it;
  }
  return nullptr;
}

bool ConfigReader::has(std::string_view name) const { return find({name}) != nullptr; }

int64_t ConfigReader::integer(Names names) const {
  const nlohmann::json* value = find(names);
  if (value == nullptr) {
    fail(ErrorCode::kBadModelConfig, "config.json: `{}` is missing", first_name(names));
  }
  const int64_t result = integer_or(names, 0);
  if (result <= 0) wrong_type(names, "a positive integer", *value);
  return result;
}

int64_t ConfigReader::integer_or(Names names, int64_t fallback) const {
  const nlohmann::json* value = find(names);
  if (value == nullptr) return fallback;
  if (!value->is_number_integer()) wrong_type(names, "an integer", *value);
  const int64_t result = value->get<int64_t>();
  if (result < 0 || result > (int64_t{1} << 40)) wrong_type(names, "a sensible size", *value);
  return result;
}

double ConfigReader::number_or(Names names, double fallback) const {
  const nlohmann::json* value = find(names);
  if (value == nullptr) return fallback;
  if (!value->is_number()) wrong_type(names, "a number", *value);
  return value->get<double>();
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
    if (!item.is_number_integer()) wrong_type(names, "a list of integers", *value);
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
  for (const std::string& type : texts_or_empty({"layer_types"})) {
    if (type != "full_attention") unsupported("layer_types", "only \"full_attention\" is");
  }
}

RopeConfig ConfigReader::rope(double default_theta, std::optional<double> default_partial) const {
  RopeConfig rope;
  rope.theta = number_or({"rope_theta"}, default_theta);
  rope.partial = number_or({"partial_rotary_factor"}, default_partial.value_or(1.0));
  const nlohmann::json* section = find({"rope_parameters", "rope_scaling"});
  const nlohmann::json empty = nlohmann::json::object();
  const ConfigReader inner(section ? *section : empty);
  const std::string_view key = has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  for (const auto& item : inner.config_.items()) {
    if (item.value().is_object()) unsupported(key, "every layer is rotated alike");
  }
  rope.type = inner.text_or({"rope_type", "type"}, "default");
  rope.theta = inner.number_or({"rope_theta"}, rope.theta);
  rope.partial = inner.number_or({"partial_rotary_factor"}, rope.partial);
  if (!default_partial && rope.partial != 1.0) {
    unsupported(inner.has("partial_rotary_factor") ? key : "partial_rotary_factor",
                "this family rotates whole heads");
  }
  if (rope.partial <= 0 || rope.partial > 1) {
    unsupported(inner.has("partial_rotary_factor") ? key : "partial_rotary_factor",
                "it must be above 0 and at most 1");
  }
  if (rope.type == "default") return rope;
  if (rope.type != "yarn") {
    unsupported(key, "rope types are default and yarn");
  }
  rope.original_max_positions = inner.number_or({"original_max_position_embeddings"},
                                                number_or({"max_position_embeddings"}, 0));
  if (rope.original_max_positions <= 0) {
    unsupported("rope_parameters", "yarn needs original_max_position_embeddings");
  }
  rope.factor = inner.number_or(
      {"factor"}, number_or({"max_position_embeddings"}, 0) / rope.original_max_positions);
  rope.beta_fast = inner.number_or({"beta_fast"}, 32);
  rope.beta_slow = inner.number_or({"beta_slow"}, 1);
  rope.mscale = inner.number_or({"mscale"}, 0);
  rope.mscale_all_dim = inner.number_or({"mscale_all_dim"}, 0);
  rope.truncate = inner.flag_or({"truncate"}, true);
  if (inner.has("attention_factor"))
    rope.attention_factor = inner.number_or({"attention_factor"}, 1);
  return rope;
}

}  // namespace sutor
