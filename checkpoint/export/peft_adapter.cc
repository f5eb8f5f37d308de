#include "checkpoint/export/peft_adapter.h"

#include <nlohmann/json.hpp>
#include <set>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/format_versions.h"
#include "csrc/base/text/json.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kFormat = "sutor.peft_adapter";
constexpr int64_t kMaxInfoBytes = int64_t{1} << 20;

// "model.layers.0.self_attn.q_proj" for the name of its lora_A or lora_B.
std::string module_of(const std::string& name) { return name.substr(0, name.find(".lora_")); }

// What a tensor is that belongs to no pair, as far as peft writes such.
std::string meaning_of(const std::string& name) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string::npos; };
  if (!name.starts_with(kPrefix)) return "its name does not begin with `base_model.model.`";
  if (has("lora_magnitude")) return "the magnitudes of DoRA, which sutor does not compute";
  if (has("lora_embedding_")) return "a pair of an embedding, which sutor does not adapt";
  if (has(".lora_") && name.ends_with(".bias")) return "a bias of lora_bias";
  if (has("lora_")) return "no lora_A.weight or lora_B.weight";
  return "a weight that was trained whole (modules_to_save, bias or an embedding made larger)";
}

bool is_of_pair(const std::string& name) {
  return name.starts_with(kPrefix) &&
         (name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight"));
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
    fail(ErrorCode::kNotAdapter, "{} is not a peft adapter: it needs {} and {}{}", path.string(),
         kPeftConfigFile, kPeftWeightsFile,
         is_there(path / "adapter_model.bin")
             ? ", not adapter_model.bin: save it with safe_serialization=True"
             : "");
  }
  require_recorded(path, recorded_files(path), /*threads=*/1, "Export the adapter again.");
  file_ = std::make_unique<SafetensorsShard>(path / kPeftWeightsFile);
  std::set<std::string> modules;
  for (const SafetensorsEntry& entry : file_->tensors()) {
    if (!is_of_pair(entry.name)) continue;
    const std::string name = entry.name.substr(kPrefix.size());
    tensors_[name] = &entry;
    modules.insert(module_of(name));
  }
  config_ = read_peft_config(config_file, modules);
  for (const SafetensorsEntry& entry : file_->tensors()) {
    if (is_of_pair(entry.name)) continue;
    fail(ErrorCode::kUnusedTensor,
         "{}: tensor `{}` is not used: {}. Without it the adapter would "
         "compute something else.",
         (path / kPeftWeightsFile).string(), entry.name, meaning_of(entry.name));
  }
  for (const std::string& module : modules) {
    for (const char* half : {".lora_A.weight", ".lora_B.weight"}) {
      if (tensors_.count(module + half)) continue;
      fail(ErrorCode::kNotAdapter, "{}: `{}` has one half of a pair, but no `{}`",
           (path / kPeftWeightsFile).string(), module, half + 1);
    }
  }
}

void PeftAdapter::check_pairs(const TensorMap& model) const {
  std::set<std::string> others;
  for (const auto& [name, entry] : tensors_) {
    if (!model.find(name)) others.insert(module_of(name));
  }
  if (others.empty()) return;
  const std::string& first = *others.begin();
  const bool expert = first.find(".experts.") != std::string::npos;
  fail(ErrorCode::kUnusedTensor,
       "{}: it adapts `{}`{}, which is not among lora.targets: that would be lost. {}",
       path_.string(), first,
       others.size() > 1 ? fmt::format(" and {} other modules", others.size() - 1) : "",
       expert ? "Target `experts` has the routed experts of the expert config."
              : "Target `attention` has the projections of attention, `linears` those of dense and "
                "shared MLPs too; no target has embeddings, the head or the router.");
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
