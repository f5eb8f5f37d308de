#include "checkpoint/quantized/quantization_config.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <stdexcept>

#include "csrc/base/error.h"

namespace sutor {
namespace {

using nlohmann::json;

constexpr int64_t kMostExtent = int64_t{1} << 40;
constexpr std::string_view kGroupsMethod = "compressed-tensors";
constexpr std::string_view kRegexPrefix = "re:";

constexpr std::array<std::string_view, 5> kMethods = {kGroupsMethod, "fp8", "fbgemm_fp8",
                                                      "modelopt", "mxfp4"};
// Formats of compressed-tensors. A group that says none has that of the whole config.
constexpr std::array<std::string_view, 7> kFormats = {
    "float-quantized", "int-quantized", "naive-quantized", "pack-quantized", "mxfp8-quantized",
    "mixed-precision", "dense"};

template <size_t N>
bool is_one_of(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// What a config says that cannot be honoured; caught in this file.
struct Unreadable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

const json& member(const json& object, const char* key) {
  static const json null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

std::string text_member(const json& object, const char* key, const std::string& missing) {
  const json& value = member(object, key);
  if (value.is_null()) return missing;
  if (!value.is_string()) {
    throw Unreadable(fmt::format("`{}` is {}, expected a text", key, value.dump()));
  }
  return value.get<std::string>();
}

bool bool_member(const json& object, const char* key, bool missing) {
  const json& value = member(object, key);
  if (value.is_null()) return missing;
  if (!value.is_boolean()) {
    throw Unreadable(fmt::format("`{}` is {}, expected true or false", key, value.dump()));
  }
  return value.get<bool>();
}

int64_t extent(const json& value, const char* key) {
  const bool sensible = value.is_number_integer() && value > 0 && value <= kMostExtent;
  if (!sensible) {
    throw Unreadable(fmt::format("`{}` is {}, expected a positive integer", key, value.dump()));
  }
  return value.get<int64_t>();
}

// Two extents: a list, or as older files have it "128x128".
std::pair<int64_t, int64_t> two_extents(const json& value, const char* key) {
  json list = value;
  if (value.is_string()) {
    const std::string text = value.get<std::string>();
    const json rows = json::parse(text.substr(0, text.find('x')), nullptr, false);
    const json columns = json::parse(text.substr(std::min(text.size(), text.find('x') + 1)),
                                     nullptr, /*allow_exceptions=*/false);
    list = json::array({rows, columns});
  }
  if (!list.is_array() || list.size() != 2) {
    throw Unreadable(fmt::format("`{}` is {}, expected [rows, columns]", key, value.dump()));
  }
  return {extent(list[0], key), extent(list[1], key)};
}

ScaleStrategy strategy_of(const json& weights, int64_t group_size) {
  const std::string missing = group_size > 0 ? "group" : group_size == -1 ? "channel" : "tensor";
  std::string text = text_member(weights, "strategy", missing);
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (text == "tensor") return ScaleStrategy::kTensor;
  if (text == "channel") return ScaleStrategy::kChannel;
  if (text == "group") return ScaleStrategy::kGroup;
  if (text == "block") return ScaleStrategy::kBlock;
  throw Unreadable(fmt::format(
      "strategy `{}` of weights; sutor reads scales of a tensor, channel, group or block", text));
}

// `group` and `dynamic` store the group of each column; `weight` and `static` only calibrated so.
bool stores_column_order(const json& weights) {
  const json& order = member(weights, "actorder");
  if (order.is_null()) return false;
  if (order.is_boolean()) return order.get<bool>();
  if (order == "group" || order == "dynamic") return true;
  if (order == "weight" || order == "static") return false;
  throw Unreadable(fmt::format("`actorder` is {}; expected group or weight", order.dump()));
}

void read_format(const std::string& format, WeightScheme& scheme) {
  if (format.empty()) return;
  if (!is_one_of(kFormats, format)) {
    throw Unreadable(
        fmt::format("the format `{}`. sutor reads the formats {} of compressed-tensors", format,
                    fmt::join(kFormats.begin(), kFormats.end() - 2, ", ")));
  }
  scheme.packed = format == "pack-quantized";
  scheme.unpacked = !scheme.packed && format != "mixed-precision" && format != "dense";
}

void read_weights(const json& weights, WeightScheme& scheme) {
  const std::string type = text_member(weights, "type", "int");
  if (type != "int" && type != "float") {
    throw Unreadable(fmt::format("weights of type `{}`", type));
  }
  scheme.is_float = type == "float";
  const json& bits = member(weights, "num_bits");
  scheme.bits = static_cast<int>(bits.is_null() ? 8 : extent(bits, "num_bits"));
  const json& group_size = member(weights, "group_size");
  const int64_t size = group_size.is_null() || group_size == 0 ? 0
                       : group_size == -1                      ? -1
                                                               : extent(group_size, "group_size");
  scheme.strategy = strategy_of(weights, size);
  scheme.group_size = std::max<int64_t>(size, 0);
  if (scheme.strategy == ScaleStrategy::kGroup && scheme.group_size == 0) {
    throw Unreadable("strategy `group` without a `group_size`");
  }
  if (scheme.strategy == ScaleStrategy::kBlock) {
    std::tie(scheme.block_rows, scheme.block_columns) =
        two_extents(member(weights, "block_structure"), "block_structure");
  }
  scheme.symmetric = bool_member(weights, "symmetric", true);
  scheme.column_order = stores_column_order(weights);
  if (scheme.is_float && scheme.bits != 8) {
    throw Unreadable(fmt::format("floats of {} bits", scheme.bits));
  }
  if (scheme.is_float && !scheme.symmetric) throw Unreadable("asymmetric floats of eight bits");
  // Widths that do not divide a word were packed in two ways over the years.
  if (!scheme.is_float && scheme.bits != 2 && scheme.bits != 4 && scheme.bits != 8) {
    throw Unreadable(fmt::format("integers of {} bits; sutor reads 2, 4 and 8", scheme.bits));
  }
}

WeightScheme read_scheme(const std::string& name, const json& group, const std::string& format) {
  WeightScheme scheme{.group = name};
  if (group.is_array()) return scheme;  // a preset with its targets
  if (!group.is_object()) throw Unreadable("no object");
  const json& weights = member(group, "weights");
  scheme.spelled_out = true;
  scheme.quantized = weights.is_object();
  if (!scheme.quantized) return scheme;
  const std::string own = text_member(group, "format", format);
  read_format(own, scheme);
  read_weights(weights, scheme);
  return scheme;
}

// Like the matching of classes of modules, of which a checkpoint knows none: a matrix may be a
// Linear, and a class of any other name may contain it.
bool is_class(const std::string& target) {
  return !target.empty() && std::isupper(static_cast<unsigned char>(target[0])) != 0 &&
         target.find('.') == std::string::npos;
}

bool class_matches(const std::string& target, const std::string& module) {
  const bool embedding = module.find("embed_tokens") != std::string::npos;
  if (target == "Embedding") return embedding;
  return is_class(target) && !(embedding && target == "Linear");
}

}  // namespace

bool QuantizationConfig::Pattern::matches(const std::string& module) const {
  if (!is_regex) return text == module;
  return std::regex_search(module, regex, std::regex_constants::match_continuous);
}

QuantizationConfig::Pattern QuantizationConfig::pattern(const std::string& text) {
  Pattern made{.text = text};
  if (!text.starts_with(kRegexPrefix)) return made;
  made.is_regex = true;
  try {
    made.regex = std::regex(text.substr(kRegexPrefix.size()), std::regex::optimize);
  } catch (const std::regex_error& error) {
    throw Unreadable(fmt::format("the pattern `{}`: {}", text, error.what()));
  }
  return made;
}

QuantizationConfig::QuantizationConfig(const json& config) {
  // Models of text and images have it with the text model; early files call it compression_config.
  for (const json* holder : {&config, &member(config, "text_config")}) {
    if (!holder->is_object()) continue;
    for (const char* key : {"quantization_config", "compression_config"}) {
      const json& found = member(*holder, key);
      if (!found.is_object()) continue;
      try {
        read(found);
      } catch (const Unreadable& problem) {
        problem_ = problem.what();
      }
      return;
    }
  }
}

void QuantizationConfig::read(const json& config) {
  const bool groups = config.contains("config_groups");
  method_ = text_member(config, "quant_method", groups ? std::string(kGroupsMethod) : "");
  if (!method_.empty() && !is_one_of(kMethods, method_)) {
    throw Unreadable(fmt::format("quant_method `{}`", method_));
  }
  if (method_ == "modelopt") {
    const std::string algorithm = text_member(config, "quant_algo", "FP8");
    if (!algorithm.starts_with("FP8")) {
      throw Unreadable(fmt::format("quant_algo `{}` of modelopt", algorithm));
    }
  }
  const json& block = member(config, "weight_block_size");
  if (!block.is_null()) block_ = two_extents(block, "weight_block_size");
  power_of_two_scales_ = text_member(config, "scale_fmt", "") == "ue8m0";
  if (method_ == kGroupsMethod) read_groups(config);
}

void QuantizationConfig::read_groups(const json& config) {
  const std::string format = text_member(config, "format", "");
  WeightScheme checked;
  read_format(format, checked);
  const json& groups = member(config, "config_groups");
  std::map<std::string, size_t> scheme_of_target;  // the last group that has it
  for (const auto& [name, group] : groups.items()) {
    const json& targets = group.is_array() ? group : member(group, "targets");
    try {
      schemes_.push_back(read_scheme(name, group, format));
      for (const json& target : targets) {
        if (!target.is_string()) throw Unreadable("its targets are not a list of texts");
        scheme_of_target[target.get<std::string>()] = schemes_.size() - 1;
      }
    } catch (const Unreadable& problem) {
      throw Unreadable(fmt::format("config_groups.{}: {}", name, problem.what()));
    }
  }
  // Names, then patterns, then classes, each in alphabetical order.
  for (const int kind : {0, 1, 2}) {
    for (const auto& [target, scheme] : scheme_of_target) {
      const int of_target = target.starts_with(kRegexPrefix) ? 1 : is_class(target) ? 2 : 0;
      if (of_target == kind) targets_.push_back({pattern(target), scheme});
    }
  }
  for (const json& ignored : member(config, "ignore")) {
    if (!ignored.is_string()) throw Unreadable("`ignore` is not a list of texts");
    ignored_.push_back(pattern(ignored.get<std::string>()));
  }
}

void QuantizationConfig::require_readable(const std::string& where) const {
  if (problem_.empty()) return;
  fail(ErrorCode::kBadStoredDType,
       "{}: quantization_config has {}, which sutor does not read. It reads weights of the methods "
       "{}. Save the model dequantised in BF16, or quantised by compressed-tensors, with the "
       "library that made it; if its weights are plain already, remove quantization_config.",
       where, problem_, fmt::join(kMethods, ", "));
}

const WeightScheme* QuantizationConfig::scheme_of(const std::string& module) const {
  for (const Pattern& ignored : ignored_) {
    if (ignored.matches(module)) return nullptr;
  }
  for (const Target& target : targets_) {
    if (target.pattern.matches(module) || class_matches(target.pattern.text, module)) {
      return &schemes_[target.scheme];
    }
  }
  return nullptr;
}

}  // namespace sutor
