#include "checkpoint/export/peft_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"
#include "csrc/base/text/name_pattern.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxConfigBytes = int64_t{64} << 20;  // target_modules may list every module

// Keys of peft 0.21 that say where pairs are, which the tensors say too, how they were initialised
// or trained, or how they are kept in memory; and those that read_peft_config reads itself.
constexpr std::array kWithoutEffect = {"alpha_pattern",
                                       "auto_mapping",
                                       "base_model_name_or_path",
                                       "bias",
                                       "corda_config",
                                       "ensure_weight_tying",
                                       "eva_config",
                                       "exclude_modules",
                                       "fan_in_fan_out",
                                       "inference_mode",
                                       "init_lora_weights",
                                       "layers_pattern",
                                       "layers_to_transform",
                                       "loftq_config",
                                       "lora_alpha",
                                       "lora_dropout",
                                       "lora_ga_config",
                                       "megatron_core",
                                       "peft_type",
                                       "peft_version",
                                       "qalora_group_size",
                                       "r",
                                       "rank_pattern",
                                       "revision",
                                       "runtime_config",
                                       "target_modules",
                                       "task_type",
                                       "use_rslora"};

class Reader {
 public:
  explicit Reader(const fs::path& file) : file_(file) {
    ParsedJson parsed = parse_json(read_file(file, kMaxConfigBytes));
    if (!parsed.problem.empty()) refuse("not valid JSON: " + parsed.problem);
    if (parsed.repeated_key) refuse(fmt::format("the key `{}` occurs twice", *parsed.repeated_key));
    json_ = std::move(parsed.value);
    if (!json_.is_object()) refuse("not a JSON object");
  }

  [[noreturn]] void refuse(const std::string& reason) const {
    fail(ErrorCode::kNotAdapter, "{}: {}", file_.string(), reason);
  }

  const Json& json() const { return json_; }

  // Null when it is missing.
  const Json& at(const char* key) const {
    static const Json null;
    const auto found = json_.find(key);
    return found == json_.end() ? null : *found;
  }

  double positive(const Json& value, const std::string& key) const {
    if (!value.is_number() || !(value.get<double>() > 0)) {
      refuse(fmt::format("`{}` is {}, but must be a number above 0", key,
                         value.is_null() ? "missing" : value.dump()));
    }
    return value.get<double>();
  }

 private:
  fs::path file_;
  Json json_;
};

// What a key is without asking for anything.
bool is_off(const Json& value) {
  return value.is_null() || value == false || value == 0 || value == "" ||
         (value.is_structured() && value.empty());
}

void check_keys(const Reader& reader) {
  const Json& type = reader.at("peft_type");
  if (type != "LORA") {
    reader.refuse(fmt::format("`peft_type` is {}; sutor reads LORA", type.dump()));
  }
  if (const Json& bias = reader.at("bias"); !bias.is_null() && bias != "none") {
    reader.refuse(
        fmt::format("`bias` is {}: sutor does not train biases beside pairs", bias.dump()));
  }
  if (!is_off(reader.at("fan_in_fan_out"))) {
    reader.refuse(
        "`fan_in_fan_out` is of layers that keep their matrices transposed, which none of "
        "the families does");
  }
  // Others (pissa, olora, corda, loftq ...) change the base model too whenever peft loads them.
  const Json& init = reader.at("init_lora_weights");
  const bool plain = init.is_null() || init.is_boolean() || init == "gaussian" || init == "eva" ||
                     init == "orthogonal";
  if (!plain) {
    reader.refuse(fmt::format(
        "`init_lora_weights` is {}: peft changes the base model by it, so the pairs belong to "
        "another base. Convert the adapter to a plain one (peft: "
        "save_pretrained(path_initial_model_for_weight_conversion=...))",
        init.dump()));
  }
  for (const auto& [key, value] : reader.json().items()) {
    if (is_off(value) || std::count(kWithoutEffect.begin(), kWithoutEffect.end(), key)) continue;
    reader.refuse(fmt::format("sutor does not compute `{}` ({})", key, value.dump().substr(0, 80)));
  }
}

// A key of rank_pattern or alpha_pattern: as in peft, for the end of a module's name.
struct ModulePattern {
  NamePattern name;
  double value;
};

std::vector<ModulePattern> read_patterns(const Reader& reader, const char* key) {
  const Json& json = reader.at(key);
  if (json.is_null()) return {};
  if (!json.is_object()) reader.refuse(fmt::format("`{}` is no object", key));
  std::vector<ModulePattern> patterns;
  for (const auto& [pattern, value] : json.items()) {
    const std::string where = fmt::format("{}.{}", key, pattern);
    patterns.push_back({NamePattern("(.*\\.)?(" + pattern + ")"), reader.positive(value, where)});
  }
  return patterns;
}

// What all modules have of `key` or of the pattern that matches their names.
double common_value(const Reader& reader, const char* key, const char* patterns_key,
                    const std::set<std::string>& modules) {
  const double common = reader.positive(reader.at(key), key);
  std::vector<ModulePattern> patterns = read_patterns(reader, patterns_key);
  const auto value_of = [&](const std::string& module) {
    std::optional<double> found;
    for (ModulePattern& pattern : patterns) {
      const bool matches = pattern.name.matches(module);
      if (!pattern.name.problem().empty()) {
        reader.refuse(fmt::format("`{}`: {}", patterns_key, pattern.name.problem()));
      }
      if (!matches) continue;
      if (found && *found != pattern.value) {
        reader.refuse(fmt::format("`{}`: several patterns match {}, with different values",
                                  patterns_key, module));
      }
      found = pattern.value;
    }
    return found.value_or(common);
  };
  std::optional<double> first;
  for (const std::string& module : modules) {
    const double here = value_of(module);
    if (!first) first = here;
    if (here == *first) continue;
    reader.refuse(
        fmt::format("`{}` gives {} {}, and {} {}; in sutor all pairs have the same rank "
                    "and alpha",
                    patterns_key, module, here, *modules.begin(), *first));
  }
  return first.value_or(common);
}

}  // namespace

PeftConfig read_peft_config(const fs::path& file, const std::set<std::string>& modules) {
  const Reader reader(file);
  check_keys(reader);
  const double rank = common_value(reader, "r", "rank_pattern", modules);
  if (rank != std::floor(rank) || rank > 1 << 20) reader.refuse(fmt::format("`r` is {}", rank));
  double alpha = common_value(reader, "lora_alpha", "alpha_pattern", modules);
  if (reader.at("use_rslora") == true) alpha *= std::sqrt(rank);  // peft: alpha / sqrt(rank)
  return {.rank = static_cast<int>(rank), .alpha = alpha};
}

}  // namespace sutor
