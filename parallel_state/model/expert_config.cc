// Reads, writes and checks the official ESFT expert config.
#include "parallel_state/model/expert_config.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/hash.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace {

using Json = nlohmann::json;

constexpr char kForm[] =
    "Expected {\"experts\": {\"<layer>\": [ids...]}, \"shared_experts\": bool, "
    "\"non_expert_modules\": bool}.";

int parse_layer(const std::string& key, const std::string& path) {
  int layer = 0;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), layer);
  const bool plain = key == std::to_string(layer);  // no "01", no "+1"
  if (error != std::errc() || end != key.data() + key.size() || layer < 0 || !plain) {
    fail(ErrorCode::kBadExpertConfig, "{}: the key \"{}\" of `experts` is not a layer number.",
         path, key);
  }
  return layer;
}

std::vector<int> parse_ids(const Json& ids, const std::string& key, const std::string& path) {
  if (!ids.is_array()) {
    fail(ErrorCode::kBadExpertConfig, "{}: layer {} has {} instead of a list of expert ids.", path,
         key, ids.dump());
  }
  std::vector<int> result;
  std::set<int> seen;
  for (const Json& id : ids) {
    if (!id.is_number_integer() || id < 0 || id > 1'000'000) {
      fail(ErrorCode::kBadExpertConfig, "{}: layer {} lists {}, which is not an expert id.", path,
           key, id.dump());
    }
    if (!seen.insert(id.get<int>()).second) {
      fail(ErrorCode::kBadExpertConfig, "{}: layer {} lists expert {} twice.", path, key,
           id.get<int>());
    }
    result.push_back(id.get<int>());
  }
  return result;
}

bool parse_flag(const Json& json, const char* key, const std::string& path) {
  if (!json.contains(key)) {
    fail(ErrorCode::kBadExpertConfig, "{}: the key `{}` is missing. {}", path, key, kForm);
  }
  if (!json[key].is_boolean()) {
    fail(ErrorCode::kBadExpertConfig, "{}: `{}` is {}, expected true or false.", path, key,
         json[key].dump());
  }
  return json[key].get<bool>();
}

// nlohmann keeps the last of repeated keys; this refuses a config that gives a layer twice.
Json parse_strict(const std::string& text, const std::string& path) {
  ParsedJson parsed = parse_json(text);
  if (parsed.repeated_key) {
    fail(ErrorCode::kBadExpertConfig, "{}: the key {} occurs twice.", path,
         Json(*parsed.repeated_key).dump());
  }
  if (!parsed.problem.empty()) {
    fail(ErrorCode::kBadExpertConfig, "{}: not valid JSON: {}. {}", path, parsed.problem, kForm);
  }
  return std::move(parsed.value);
}

constexpr const char* kMadeFrom = "made_from";
constexpr const char* kContent = "content";
constexpr const char* kRecord = "record";

std::string content_digest(const ExpertConfig& config) { return xxh3(to_json(config)).text(); }

std::string record_digest(std::map<std::string, std::string> made_from) {
  made_from.erase(kRecord);
  return xxh3(Json(made_from).dump()).text();
}

int min_layer(const ExpertConfig& config) { return config.experts.begin()->first; }
int max_layer(const ExpertConfig& config) { return config.experts.rbegin()->first; }

// Whether the keys skip layer 0 and end one layer too late.
bool looks_shifted(const ExpertConfig& config, const ModelInfo& model) {
  return !config.experts.empty() && min_layer(config) >= 1 && max_layer(config) == model.num_layers;
}

constexpr char kShiftFix[] =
    "The keys look shifted by one: they seem to count layers from 1, the model from 0. If so, give "
    "`--layer-base 1` (recipe: `esft.layer_base: 1`). But the sample of AWS kept the numbers until "
    "February 2026 and put layer 0 last: for a file of its scripts rename the last key to 0 "
    "instead.";

}  // namespace

bool ExpertConfig::trains_anything() const {
  return shared_experts || non_expert_modules || num_experts() > 0;
}

int64_t ExpertConfig::num_experts() const {
  int64_t sum = 0;
  for (const auto& [layer, ids] : experts) sum += static_cast<int64_t>(ids.size());
  return sum;
}

ExpertConfig read_expert_config(const std::filesystem::path& path) {
  const std::string name = path.string();
  return parse_expert_config(parse_strict(read_file(path), name), name);
}

ExpertConfig parse_expert_config(const Json& json, const std::string& where) {
  if (!json.is_object() || !json.contains("experts") || !json["experts"].is_object()) {
    fail(ErrorCode::kBadExpertConfig, "{}: this is not an expert config. {}", where, kForm);
  }
  ExpertConfig config;
  for (const auto& [key, ids] : json["experts"].items()) {
    config.experts[parse_layer(key, where)] = parse_ids(ids, key, where);
  }
  config.shared_experts = parse_flag(json, "shared_experts", where);
  config.non_expert_modules = parse_flag(json, "non_expert_modules", where);
  return config;
}

std::string to_json(const ExpertConfig& config) {
  // The authors' files list layers in string order: 1, 10, 11, ..., 2, ...
  std::map<std::string, const std::vector<int>*> layers;
  for (const auto& [layer, ids] : config.experts) layers[std::to_string(layer)] = &ids;
  std::vector<std::string> parts;
  for (const auto& [layer, ids] : layers) {
    parts.push_back(fmt::format("\"{}\": [{}]", layer, fmt::join(*ids, ", ")));
  }
  return fmt::format("{{\"experts\": {{{}}}, \"shared_experts\": {}, \"non_expert_modules\": {}}}",
                     fmt::join(parts, ", "), config.shared_experts, config.non_expert_modules);
}

std::string to_json(const ExpertConfig& config, std::map<std::string, std::string> made_from) {
  made_from[kContent] = content_digest(config);
  made_from[kRecord] = record_digest(made_from);
  std::string text = to_json(config);
  text.insert(text.size() - 1, fmt::format(", \"{}\": {}", kMadeFrom, Json(made_from).dump()));
  return text;
}

std::optional<std::string> changed_record(const Json& json, const std::string& where) {
  const ExpertConfig config = parse_expert_config(json, where);
  if (!json.contains(kMadeFrom)) return std::nullopt;
  if (!json[kMadeFrom].is_object()) return "its record of what made it is no object";
  std::map<std::string, std::string> made_from;
  for (const auto& [name, value] : json[kMadeFrom].items()) {
    if (!value.is_string()) return "its record of what made it has something else than texts";
    made_from[name] = value.get<std::string>();
  }
  if (made_from[kContent] != content_digest(config))
    return "its content is not what `select` wrote";
  if (made_from[kRecord] != record_digest(made_from)) {
    return "its record of what made it is not what `select` wrote";
  }
  return "";
}

void write_expert_config(const ExpertConfig& config, const std::filesystem::path& path) {
  write_file_atomic(path, to_json(config));
}

ExpertConfig check_expert_config(const ExpertConfig& config, const ModelInfo& model, int layer_base,
                                 const std::string& where) {
  if (layer_base < 0) {
    fail(ErrorCode::kBadArgument, "the layer base is {}, but must be 0 or more.", layer_base);
  }
  if (!config.trains_anything()) {
    fail(ErrorCode::kNothingTrains,
         "{}: the selection is empty: no expert, and neither shared_experts nor "
         "non_expert_modules is true. Nothing would train.",
         where);
  }
  ExpertConfig result = config;
  result.experts.clear();
  const bool shifted = layer_base == 0 && looks_shifted(config, model);
  for (const auto& [key, ids] : config.experts) {
    const int layer = key - layer_base;
    const std::string named =
        layer_base == 0 ? std::to_string(key) : fmt::format("{} (key {})", layer, key);
    if (layer < 0) {
      fail(ErrorCode::kNoSuchLayer,
           "{}: layer key {} is below the layer base {}. Is `--layer-base {}` right?", where, key,
           layer_base, layer_base);
    }
    if (layer >= model.num_layers) {
      fail(ErrorCode::kNoSuchLayer,
           "{}: layer {} is beyond the model, whose {} layers are 0 to {}. {}", where, named,
           model.num_layers, model.num_layers - 1,
           shifted ? kShiftFix : "Was this config made for another model?");
    }
    if (!model.is_moe(layer)) {
      fail(ErrorCode::kNoExpertsInLayer, "{}: layer {} has no routed experts in this model. {}",
           where, named,
           layer_base > 0 ? "Is the layer base right?" : "Was this config made for another model?");
    }
    for (int id : ids) {
      if (id >= model.num_experts) {
        fail(ErrorCode::kNoSuchExpert,
             "{}: layer {} names expert {}, but the model has {} experts (0 to {}). Was this "
             "config made for another model?",
             where, named, id, model.num_experts, model.num_experts - 1);
      }
    }
    result.experts[layer] = ids;
  }
  return result;
}

}  // namespace sutor
