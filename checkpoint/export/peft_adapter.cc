#include "checkpoint/export/peft_adapter.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/format_versions.h"
#include "csrc/base/text/json.h"
#include "csrc/base/text/name_pattern.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kFormat = "sutor.peft_adapter";
constexpr int64_t kMaxInfoBytes = int64_t{1} << 20;

// "model.layers.0.self_attn.q_proj" for the name of its lora_A or lora_B.
std::string module_of(const std::string& name) { return name.substr(0, name.find(".lora_")); }

// Whether a key of rank_pattern or alpha_pattern matches a module of the adapter: as in peft, it is
// a regular expression for the end of the name.
bool applies(const std::string& pattern,
             const std::map<std::string, const SafetensorsEntry*>& tensors) {
  NamePattern name("(.*\\.)?(" + pattern + ")");
  const bool any = std::any_of(tensors.begin(), tensors.end(), [&](const auto& tensor) {
    return name.matches(module_of(tensor.first));
  });
  return any || !name.problem().empty();  // better refused than ignored
}

}  // namespace

void write_peft_adapter(const fs::path& directory, const std::vector<TrainedTensor>& pairs,
                        const PeftOptions& options) {
  std::vector<SafetensorsDeclaration> declared;
  std::map<std::string, const TrainedTensor*> by_name;
  std::set<std::string> modules;
  for (const TrainedTensor& pair : pairs) {
    const std::string name = std::string(kPrefix) + pair.name;
    declared.push_back({name, std::string(name_of(pair.stored_dtype)), pair.shape});
    by_name[name] = &pair;
    modules.insert(module_of(pair.name));
  }
  sort_as_safetensors(declared);
  make_directory(directory);
  SafetensorsWriter writer(directory / kPeftWeightsFile, declared);
  for (const SafetensorsDeclaration& declaration : declared) {
    const TrainedTensor& pair = *by_name.at(declaration.name);
    stream_converted(pair, pair.stored_dtype,
                     [&](std::span<const std::byte> bytes) { writer.append(bytes); });
  }
  const Digest digest = writer.finish();
  std::vector<RecordedFile> files = {{kPeftWeightsFile, writer.file_bytes(), digest}};
  const nlohmann::ordered_json config = {{"peft_type", "LORA"},
                                         {"task_type", "CAUSAL_LM"},
                                         {"base_model_name_or_path", options.base},
                                         {"r", options.rank},
                                         {"lora_alpha", options.alpha},
                                         {"lora_dropout", 0.0},
                                         {"bias", "none"},
                                         {"fan_in_fan_out", false},
                                         {"inference_mode", true},
                                         {"target_modules", modules}};
  files.push_back(write_recorded(directory, kPeftConfigFile, dump_json(config, 2) + "\n"));
  write_new_file(
      directory / kPeftInfoFile,
      encode_file_list({{"format", kFormat}, {"format_version", kPeftInfoVersion}}, files));
}

PeftAdapter::PeftAdapter(const fs::path& path) : path_(path) {
  const fs::path config_file = path / kPeftConfigFile;
  if (!is_there(config_file) || !is_there(path / kPeftWeightsFile)) {
    fail(ErrorCode::kNotAdapter, "{} is not a peft adapter: it needs {} and {}", path.string(),
         kPeftConfigFile, kPeftWeightsFile);
  }
  require_recorded(path, recorded_files(path), /*threads=*/1, "Export the adapter again.");
  const nlohmann::json config = parse_json(read_file(config_file)).value;
  const auto refuse = [&](const std::string& reason) {
    fail(ErrorCode::kNotAdapter, "{}: {}", config_file.string(), reason);
  };
  if (!config.is_object() || config.value("peft_type", nlohmann::json()) != "LORA")
    refuse("not a LORA adapter");
  for (const char* key : {"use_rslora", "use_dora", "fan_in_fan_out"}) {
    const auto at = config.find(key);
    if (at != config.end() && at->is_boolean() && at->get<bool>()) {
      refuse(fmt::format("sutor does not compute `{}`", key));
    }
  }
  if (!config.contains("r") || !config["r"].is_number_integer() || !config.contains("lora_alpha") ||
      !config["lora_alpha"].is_number()) {
    refuse("`r` and `lora_alpha` are missing");
  }
  rank_ = config["r"];
  alpha_ = config["lora_alpha"];
  file_ = std::make_unique<SafetensorsShard>(path / kPeftWeightsFile);
  for (const SafetensorsEntry& entry : file_->tensors()) {
    if (entry.name.starts_with(kPrefix)) tensors_[entry.name.substr(kPrefix.size())] = &entry;
  }
  for (const char* key : {"rank_pattern", "alpha_pattern"}) {
    const auto patterns = config.find(key);
    if (patterns == config.end() || !patterns->is_object()) continue;
    for (const auto& [pattern, value] : patterns->items()) {
      if (!applies(pattern, tensors_)) continue;
      refuse(fmt::format("`{}` applies to `{}`; in sutor all pairs have the same rank and alpha",
                         key, pattern));
    }
  }
}

std::vector<RecordedFile> PeftAdapter::recorded_files(const fs::path& path) {
  const fs::path file = path / kPeftInfoFile;
  if (!is_there(file)) return {};
  const nlohmann::json body =
      parse_file_list(read_file(file, kMaxInfoBytes), file.string(), kFormat, kPeftInfoVersion);
  if (!lists_files(body)) {
    fail(ErrorCode::kBadManifest, "{} is corrupt: it lists no files", file.string());
  }
  return listed_files(body, file.string());
}

void PeftAdapter::load(const ShardedTensor& destination) const {
  const auto found = tensors_.find(destination.name);
  if (found == tensors_.end()) {
    fail(ErrorCode::kNotAdapter, "{} has no tensor `{}`: it adapts other modules than lora.targets",
         path_.string(), destination.name);
  }
  const SafetensorsEntry& entry = *found->second;
  if (entry.shape != destination.global_shape) {
    fail(ErrorCode::kWrongShape, "{}: `{}` has shape {}, lora.rank and the model ask for {}",
         path_.string(), destination.name, shape_text(entry.shape),
         shape_text(destination.global_shape));
  }
  if (!entry.dtype) {
    fail(ErrorCode::kBadStoredDType, "{}: `{}` is {}", path_.string(), entry.name,
         entry.dtype_name);
  }
  file_->load(entry.begin, *entry.dtype, destination);
}

}  // namespace sutor
