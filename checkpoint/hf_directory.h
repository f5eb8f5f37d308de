// A Hugging Face model directory: config.json and safetensors (one file, or shards with an index).
// Only headers are read until bytes are asked for; nothing is ever written into it.
// Errors: E0300 config.json, E0301 missing files or tensors, E0302 wrong shape, E0303 a broken or
// truncated safetensors file, E0304 index and shards contradict each other, E0307 a dtype that
// sutor does not compute with.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "csrc/base/hash.h"
#include "csrc/base/safetensors.h"
#include "parallel_state/sharded_tensor.h"
#include "parallel_state/tensor_map.h"

namespace sutor {

// A tensor of the directory, where it lies.
struct StoredTensor {
  size_t shard = 0;  // number in HfDirectory::shards()
  const SafetensorsFile* file = nullptr;
  const SafetensorsEntry* entry = nullptr;
};

// The part of a stored tensor that supplies a model tensor.
struct ResolvedSource {
  const DiskSource* source = nullptr;
  StoredTensor stored;
  int64_t begin = 0;  // bytes [begin, end) of the file hold the model tensor
  int64_t end = 0;
};

// The name of config.json's `dtype` (transformers 5) or `torch_dtype`: F32, BF16 or F16; F32 when
// there is none. Throws E0307 for another.
DType config_dtype(const nlohmann::json& config);

class HfDirectory {
 public:
  // Opens every shard and checks its header, the index and their agreement.
  explicit HfDirectory(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const nlohmann::json& config() const { return config_; }
  // In the order of their names; one for a model that is not sharded.
  const std::vector<std::unique_ptr<SafetensorsFile>>& shards() const { return shards_; }
  size_t num_tensors() const { return tensors_.size(); }
  // All tensors by name.
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }
  std::optional<StoredTensor> find(std::string_view name) const;

  // The first of the tensor's sources that the directory holds; nothing when it holds none.
  // Throws E0302 when its shape is not the expected one.
  std::optional<ResolvedSource> resolve(const TensorEntry& tensor) const;
  bool has_source(const TensorEntry& tensor) const;
  // Every tensor of the model is here, in the right shape (E0302) and in F32, BF16 or F16 (E0307).
  // Missing ones are listed (E0301).
  void check(const TensorMap& model) const;
  // Names that no tensor of the model is read from, sorted. They are kept by a merged export.
  std::vector<std::string> unexpected(const TensorMap& model) const;

  // Fills the destination's rows, converted to its dtype (round to nearest even). Thread-safe; the
  // memory beyond the destination is bounded. Throws as check() does.
  void load(const TensorEntry& tensor, ShardedTensor& destination) const;

  // xxh3-128 of each tensor's bytes, by name. Reads everything once, on `threads` threads (0 =
  // all); kept for later calls.
  const std::map<std::string, Digest>& tensor_digests(int threads = 0) const;
  // Identifies the weights, whatever their sharding: over all tensors in the order of their names,
  // name, dtype, shape and digest of the bytes.
  Digest digest(int threads = 0) const;
  // From config.json, the headers and the file sizes only: cheap, and blind to changed values.
  Digest quick_digest() const;

 private:
  void read_config();
  void open_single();
  void open_sharded();
  void add_shard(const std::string& file_name);

  struct DigestCache {
    std::mutex mutex;
    std::map<std::string, Digest> tensors;
    bool filled = false;
  };

  std::filesystem::path path_;
  nlohmann::json config_;
  std::string config_text_;
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
  std::unique_ptr<DigestCache> digests_ = std::make_unique<DigestCache>();
};

}  // namespace sutor
