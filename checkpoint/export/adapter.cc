#include "checkpoint/export/adapter.h"

#include "checkpoint/huggingface/end_tokens.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/format_versions.h"
#include "csrc/base/text/json.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kFormat = "sutor.adapter";
constexpr int64_t kMaxInfoBytes = int64_t{1} << 28;  // a digest for each tensor
constexpr const char* kRepair = "Fetch the adapter again, or export it again.";

// What stands before the name that the model has, as of a wrapper; "" when there is no such thing.
std::string prefix_of(const std::string& name, const TensorMap& model) {
  for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    const std::string rest = global_adapter_name(name.substr(dot + 1));
    if (model.find(rest)) return name.substr(0, dot + 1);
  }
  return "";
}

std::vector<RecordedFile> write_shards(const fs::path& directory,
                                       const std::vector<TrainedTensor>& tensors,
                                       int64_t max_shard_bytes,
                                       std::map<std::string, Digest>& digests) {
  std::map<std::string, const TrainedTensor*> by_name;
  std::vector<SafetensorsDeclaration> declarations;
  for (const TrainedTensor& tensor : tensors) {
    const bool fresh = by_name.emplace(tensor.name, &tensor).second;
    SUTOR_ASSERT(fresh);
    declarations.push_back({tensor.name, std::string(name_of(tensor.stored_dtype)), tensor.shape});
  }
  std::vector<RecordedFile> files;
  const HfShardPlan plan = plan_shards(declarations, max_shard_bytes);
  for (const HfShard& shard : plan.shards) {
    SafetensorsWriter writer(directory / shard.file_name, shard.tensors);
    for (const SafetensorsDeclaration& declaration : shard.tensors) {
      const TrainedTensor& tensor = *by_name.at(declaration.name);
      Hasher hasher;
      stream_converted(tensor, tensor.stored_dtype, [&](std::span<const std::byte> bytes) {
        hasher.update(bytes);
        writer.append(bytes);
      });
      digests[tensor.name] = hasher.digest();
    }
    const Digest digest = writer.finish();
    files.push_back({shard.file_name, writer.file_bytes(), digest});
  }
  if (!plan.index_json.empty()) {
    files.push_back(write_recorded(directory, kIndexFile, plan.index_json));
  }
  return files;
}

// Null when there is none.
nlohmann::json read_info_body(const fs::path& adapter) {
  const fs::path file = adapter / kAdapterInfoFile;
  if (!is_there(file)) return nullptr;
  return parse_file_list(read_file(file, kMaxInfoBytes), file.string(), kFormat, kAdapterVersion);
}

}  // namespace

void write_adapter(const fs::path& directory, const std::vector<TrainedTensor>& tensors,
                   const ExpertConfig& config, const ExportOrigin& origin,
                   int64_t max_shard_bytes) {
  make_directory(directory);
  std::map<std::string, Digest> digests;
  std::vector<RecordedFile> files = write_shards(directory, tensors, max_shard_bytes, digests);
  files.push_back(write_recorded(directory, kExpertConfigFile, to_json(config)));
  nlohmann::json info = {{"format", kFormat},
                         {"format_version", kAdapterVersion},
                         {"base_digest", origin.base_digest},
                         {"provenance", origin.provenance},
                         {"tensors", nlohmann::json::object()}};
  if (origin.base_config.is_object()) info["base_config"] = origin.base_config;
  if (!origin.end_tokens.empty()) info["end_tokens"] = origin.end_tokens;
  for (const auto& [name, digest] : digests) info["tensors"][name] = digest.text();
  write_new_file(directory / kAdapterInfoFile, encode_file_list(std::move(info), std::move(files)));
}

Adapter::Adapter(const fs::path& path) : path_(path) {
  if (!is_folder(path_)) {
    fail(ErrorCode::kNotAdapter, "adapter {} is not a directory", path_.string());
  }
  if (!is_there(path_ / kExpertConfigFile)) {
    const bool peft = is_there(path_ / "adapter_config.json");
    fail(
        ErrorCode::kNotAdapter, "{} is not an adapter: it has no {}. {}", path_.string(),
        kExpertConfigFile,
        peft
            ? "It is one of peft, whose pairs go on training by `lora.init`, and which peft merges."
            : "Put the expert config of the training there, under this name.");
  }
  const nlohmann::json info = read_info_body(path_);
  if (lists_files(info)) {
    recorded_files_ = listed_files(info, (path_ / kAdapterInfoFile).string());
    check_small_files();
  }
  config_ = read_expert_config(path_ / kExpertConfigFile);
  open_tensors();
  if (!info.is_null()) read_info(info);
}

// Before anything that they say counts: the expert config whole, of the others the size.
void Adapter::check_small_files() const {
  for (const RecordedFile& file : recorded_files_) {
    if (file.path == kExpertConfigFile) {
      require_recorded(path_, {file}, /*threads=*/1, kRepair);
    } else {
      require_size(path_, file, kRepair);
    }
  }
}

void Adapter::open_tensors() {
  std::vector<fs::path> files;
  for (const fs::path& file : entries_of(path_)) {
    if (file.extension() == ".safetensors") files.push_back(file);
  }
  if (files.empty()) {
    fail(ErrorCode::kNotAdapter, "{} is not an adapter: it has no *.safetensors", path_.string());
  }
  for (const fs::path& file : files) {
    files_.push_back(std::make_unique<SafetensorsShard>(file));
    for (const SafetensorsEntry& entry : files_.back()->tensors()) {
      const StoredTensor stored{files_.size() - 1, files_.back().get(), &entry};
      if (!tensors_.emplace(global_adapter_name(entry.name), stored).second) {
        fail(ErrorCode::kNotAdapter, "{}: tensor `{}` occurs twice, the second time in {}",
             path_.string(), global_adapter_name(entry.name), file.filename().string());
      }
    }
  }
  if (!is_there(path_ / kIndexFile)) return;
  for (const auto& [name, file] : read_hf_index(path_ / kIndexFile).weight_map) {
    if (tensors_.count(global_adapter_name(name))) continue;
    fail(ErrorCode::kContradictoryShards, "{}: {} lists tensor `{}` in {}, but no file has it. {}",
         path_.string(), kIndexFile, name, file, kRepair);
  }
}

void Adapter::check_tensors(const TensorMap& model, const std::string& model_name) const {
  std::vector<std::string> unknown;
  for (const auto& [name, stored] : tensors_) {
    const TensorEntry* entry = model.find(name);
    if (!entry) {
      unknown.push_back(name);
    } else if (entry->shape != stored.entry->shape) {
      fail(ErrorCode::kWrongShape, "{}: tensor `{}` has shape {}, but {} has {}",
           stored.file->where(), name, shape_text(stored.entry->shape), model_name,
           shape_text(entry->shape));
    }
  }
  if (unknown.empty()) return;
  const std::string prefix = prefix_of(unknown[0], model);
  fail(ErrorCode::kUnusedTensor, "{}: tensor `{}`{} is of no module of {}. {}", path_.string(),
       unknown[0],
       unknown.size() > 1
           ? fmt::format(" (and {} of the other {})", unknown.size() - 1, tensors_.size() - 1)
           : "",
       model_name,
       prefix.empty()
           ? "Was the adapter trained on another model, or does it hold more than trained weights?"
           : fmt::format("Without `{}`, which a wrapper puts before all names, it would be: save "
                         "what is in the wrapper.",
                         prefix));
}

void Adapter::read_info(const nlohmann::json& info) {
  const fs::path file = path_ / kAdapterInfoFile;
  const auto refuse = [&](const std::string& reason) {
    fail(ErrorCode::kNotAdapter, "{}: {}. Export the adapter again.", file.string(), reason);
  };
  if (!info.is_object()) refuse("not a JSON object");
  if (info.value("format_version", nlohmann::json()) != kAdapterVersion) {
    fail(ErrorCode::kNotAdapter, "{}: format_version {} is unknown; this program reads version {}",
         file.string(), info.value("format_version", nlohmann::json()).dump(), kAdapterVersion);
  }
  const auto base = info.find("base_digest");
  if (base == info.end() || !base->is_string()) refuse("`base_digest` is missing");
  base_digest_ = parse_digest(base->get<std::string>(), file.string());
  base_config_ = info.value("base_config", nlohmann::json());
  end_tokens_ = end_tokens_of(info, "end_tokens");
  const auto tensors = info.find("tensors");
  if (tensors == info.end() || !tensors->is_object()) refuse("`tensors` is missing");
  for (const auto& [name, digest] : tensors->items()) {
    if (!digest.is_string()) refuse(fmt::format("the digest of `{}` is not a string", name));
    if (!tensors_.count(name)) {
      refuse(fmt::format("tensor `{}` is listed, but no file has it", name));
    }
    recorded_digests_[name] = parse_digest(digest.get<std::string>(), file.string());
  }
  for (const auto& [name, stored] : tensors_) {
    if (!recorded_digests_.count(name)) {
      refuse(fmt::format("{} has tensor `{}`, which is not listed", stored.file->name(), name));
    }
  }
}

void Adapter::check_content(int threads) const {
  require_recorded(path_, recorded_files_, threads, kRepair);
  if (!recorded_files_.empty()) return;
  for (const auto& [name, digest] : recorded_digests_) {
    const StoredTensor& stored = tensors_.at(name);
    if (stored.file->digest(stored.entry->begin, stored.entry->end) == digest) continue;
    fail(ErrorCode::kCorrupted, "{}: tensor `{}` is not the one that {} lists. {}",
         stored.file->where(), name, kAdapterInfoFile, kRepair);
  }
}

std::vector<TrainedTensor> Adapter::trained_tensors() const {
  std::vector<TrainedTensor> tensors;
  for (const auto& [name, stored] : tensors_) {
    const SafetensorsEntry& entry = *stored.entry;
    if (entry.dtype != DType::kF32 && entry.dtype != DType::kBF16 && entry.dtype != DType::kF16) {
      fail(ErrorCode::kBadStoredDType,
           "{}: tensor `{}` is {}; sutor computes with F32, BF16 and F16", stored.file->where(),
           name, entry.dtype_name);
    }
    tensors.push_back({.name = name,
                       .shape = entry.shape,
                       .dtype = *entry.dtype,
                       .stored_dtype = *entry.dtype,
                       .read = [stored = stored](const ShardedTensor& slice) {
                         stored.file->load(stored.entry->begin, slice.dtype, slice);
                       }});
  }
  return tensors;
}

void Adapter::check_base(const Digest& base, const std::string& base_name) const {
  if (!base_digest_ || *base_digest_ == base) return;
  fail(ErrorCode::kOtherBase,
       "adapter {} was trained on base {}, but {} is {}. Give the model that it was trained on.",
       path_.string(), base_digest_->text(), base_name, base.text());
}

std::vector<RecordedFile> recorded_adapter_files(const fs::path& path) {
  const nlohmann::json info = read_info_body(path);
  if (!lists_files(info)) return {};
  return listed_files(info, (path / kAdapterInfoFile).string());
}

}  // namespace sutor
