// Adapters: only the trained tensors, as safetensors under Hugging Face names, beside the expert
// config. There are two forms: sutor's, in which `sutor_adapter.json` records base and provenance,
// and that of the ESFT authors: a folder of *.safetensors with expert_cfg.json, whose names may
// lack the leading `model.`, and in which a trainer may have left more.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/export/adapter_folder.h"
#include "checkpoint/export/trained_tensor.h"
#include "checkpoint/files/recorded_files.h"
#include "checkpoint/huggingface/hf_index.h"
#include "parallel_state/model/expert_config.h"
#include "parallel_state/model/tensor_map.h"

namespace sutor {

constexpr const char* kAdapterInfoFile = "sutor_adapter.json";

// What an export records of its origin.
struct ExportOrigin {
  std::string base_digest;            // Digest::text() of the base model's ModelDirectory::digest()
  nlohmann::json provenance;          // program version, commit, command line
  nlohmann::json base_config;         // the base's computing_config()
  std::set<int64_t> end_tokens = {};  // those that ended what was trained, as far as known
};

// Writes the tensors in their stored_dtype, in shards of at most `max_shard_bytes`, into a new
// directory, which the caller publishes (csrc/base/owner/staged_directory.h).
void write_adapter(const std::filesystem::path& directory,
                   const std::vector<TrainedTensor>& tensors, const ExpertConfig& config,
                   const ExportOrigin& origin, int64_t max_shard_bytes = kDefaultShardBytes);

// Opens headers only; checks expert_cfg.json and the sizes of all files where they are recorded
// (E0342, E0344, E0347). Throws E0308 when the folder is not an adapter or has a tensor twice,
// E0304 when an index lists what no file has, E0303 for a broken safetensors file, E0310 for a
// broken expert_cfg.json.
class Adapter {
 public:
  explicit Adapter(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const ExpertConfig& config() const { return config_; }
  // Absent in the authors' form.
  std::optional<Digest> base_digest() const { return base_digest_; }
  // Of the base, see huggingface/base_config.h; null in adapters of older programs and of others.
  const nlohmann::json& base_config() const { return base_config_; }
  // The tokens that ended what was trained; none in adapters of older programs and of others.
  const std::set<int64_t>& end_tokens() const { return end_tokens_; }
  // All files but sutor_adapter.json, as recorded by the writer; empty where it was an older
  // program or another one.
  const std::vector<RecordedFile>& recorded_files() const { return recorded_files_; }
  // Reads everything and throws E0347 naming the first file, or tensor of an older program's
  // adapter, that is not as it was written. Without recorded digests it reads nothing.
  void check_content(int threads = 0) const;
  // The digest of each tensor's bytes, as recorded by the writer; empty in the authors' form.
  const std::map<std::string, Digest>& recorded_digests() const { return recorded_digests_; }
  // By global name.
  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
  // Throws E0353 for tensors that no module of the model has, with the likely cause, E0302 for
  // another shape.
  void check_tensors(const TensorMap& model, const std::string& model_name) const;
  // All tensors, read on request; they must not outlive the adapter. Throws E0307 for a dtype that
  // sutor does not compute with.
  std::vector<TrainedTensor> trained_tensors() const;
  // Throws E0305 when the adapter was trained on another base.
  void check_base(const Digest& base, const std::string& base_name) const;

 private:
  void read_info(const nlohmann::json& info);
  void check_small_files() const;
  void open_tensors();

  std::filesystem::path path_;
  ExpertConfig config_;
  std::vector<std::unique_ptr<ModelShard>> files_;
  std::map<std::string, StoredTensor> tensors_;
  std::optional<Digest> base_digest_;
  nlohmann::json base_config_;
  std::set<int64_t> end_tokens_;
  std::vector<RecordedFile> recorded_files_;
  std::map<std::string, Digest> recorded_digests_;
};

// What sutor_adapter.json lists of the others, whatever they hold; empty as
// Adapter::recorded_files. Throws E0342, E0343.
std::vector<RecordedFile> recorded_adapter_files(const std::filesystem::path& path);

}  // namespace sutor
