#include "layers/decoder/config_reader.h"

#include <cmath>
#include <cstdint>

#include "csrc/base/error.h"

namespace sutor {
namespace {

std::string first_name(ConfigReader::Names names) { return std::string(*names.begin()); }

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

RopeConfig ConfigReader::rope(double default_theta, std::optional<double> default_partial) const {
  RopeConfig rope;
  constexpr double kMostTheta = 1e18;
  rope.theta = positive_or({"rope_theta"}, default_theta, kMostTheta);
  rope.partial = number_or({"partial_rotary_factor"}, default_partial.value_or(1.0));
  const nlohmann::json* section = find({"rope_parameters", "rope_scaling"});
  const nlohmann::json empty = nlohmann::json::object();
  const ConfigReader inner(section ? *section : empty);
  const std::string_view key = has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  for (const auto& item : inner.config_.items()) {
    if (item.value().is_object()) unsupported(key, "every layer is rotated alike");
  }
  rope.type = inner.text_or({"rope_type", "type"}, "default");
  rope.theta = inner.positive_or({"rope_theta"}, rope.theta, kMostTheta);
  rope.partial = inner.number_or({"partial_rotary_factor"}, rope.partial);
  if (!default_partial && rope.partial != 1.0) {
    unsupported(inner.has("partial_rotary_factor") ? key : "partial_rotary_factor",
                "this family rotates whole heads");
  }
  if (rope.partial <= 0 || rope.partial > 1) {
    contradictory(inner.has("partial_rotary_factor") ? key : "partial_rotary_factor",
                  "it must be above 0 and at most 1");
  }
  if (rope.type == "default") return rope;
  if (rope.type != "yarn") {
    unsupported(key, "rope types are default and yarn");
  }
  if (rope.theta <= 1) contradictory(key, "yarn needs a rope_theta above 1");
  const double positions = positive_or({"max_position_embeddings"}, 0);
  rope.original_max_positions = inner.positive_or({"original_max_position_embeddings"}, positions);
  if (rope.original_max_positions <= 0) {
    contradictory("rope_parameters", "yarn needs original_max_position_embeddings");
  }
  rope.factor = inner.positive_or({"factor"}, positions / rope.original_max_positions);
  if (rope.factor <= 0) contradictory(key, "yarn needs a factor");
  rope.beta_fast = inner.positive_or({"beta_fast"}, 32);
  rope.beta_slow = inner.positive_or({"beta_slow"}, 1);
  if (rope.beta_fast < rope.beta_slow) contradictory(key, "beta_fast is below beta_slow");
  rope.mscale = inner.number_or({"mscale"}, 0);
  rope.mscale_all_dim = inner.number_or({"mscale_all_dim"}, 0);
  if (rope.mscale < 0 || rope.mscale_all_dim < 0) contradictory(key, "mscale is negative");
  rope.truncate = inner.flag_or({"truncate"}, true);
  if (inner.has("attention_factor")) {
    rope.attention_factor = inner.positive_or({"attention_factor"}, 1);
  }
  return rope;
}

}  // namespace sutor
