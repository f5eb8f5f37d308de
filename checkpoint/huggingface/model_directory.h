// A model on disk: config.json, weights as a set of safetensors files, and everything else that
// lies beside them. Either a Hugging Face directory (hf_directory.h) or a base store (base_store.h)
// made of one; whoever reads weights need not know which.
// Errors: E0300 config.json, E0301 missing files, E0314 missing tensors, E0302 wrong shape, E0303 a
// broken or truncated safetensors file, E0304 shards contradict each other, E0307 a dtype that
// sutor does not compute with; of a base store E0341 to E0347 as well.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/huggingface/model_shard.h"
#include "checkpoint/huggingface/resolved_source.h"
#include "csrc/base/hash.h"
#include "parallel_state/model/sharded_tensor.h"
#include "parallel_state/model/tensor_map.h"

namespace sutor {

// The name of config.json's `dtype` (transformers 5) or `torch_dtype`: F32, BF16 or F16; F32 when
// there is none. Throws E0307 for another.
DType config_dtype(const nlohmann::json& config);

class ModelDirectory {
 public:
  virtual ~ModelDirectory() = default;

  virtual std::string_view kind() const = 0;  // "model directory" or "base store"
  const std::filesystem::path& path() const { return path_; }
  const nlohmann::json& config() const { return config_; }
  // In the order of their names; one for a model that is not sharded.
  const std::vector<std::unique_ptr<ModelShard>>& shards() const { return shards_; }
  size_t num_tensors() const { return tensors_.size(); }
  // All tensors by name.
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }
  std::optional<StoredTensor> find(std::string_view name) const;

  // The folder that holds config.json and all other files.
  virtual std::filesystem::path files_root() const = 0;
  // Every file but the shards, relative to files_root(), in subfolders too.
  virtual std::set<std::filesystem::path> other_files() const = 0;

  // The first of the tensor's sources that the directory holds; nothing when it holds none.
  // Throws E0302 when its shape is not the expected one.
  std::optional<ResolvedSource> resolve(const TensorEntry& tensor) const;
  bool has_source(const TensorEntry& tensor) const;
  // Every tensor of the model is here, in the right shape (E0302) and in F32, BF16 or F16 (E0307).
  // Missing ones are listed (E0314).
  void check(const TensorMap& model) const;
  // Names that no tensor of the model is read from, sorted. They are kept by a merged export.
  std::vector<std::string> unexpected(const TensorMap& model) const;

  // Fills the destination's rows and columns, converted to its dtype (round to nearest even).
  // Thread-safe; the memory beyond the destination is bounded. Throws as check() does.
  void load(const TensorEntry& tensor, const ShardedTensor& destination) const;

  // Where a read of the tensor that begins at row `row` should end when it is to fetch about
  // `bytes` bytes: the row before which the last tile ends that is within reach, so that reads
  // which meet there fetch nothing twice. All rows that are left when no such place is in reach.
  int64_t read_end_row(const TensorEntry& tensor, int64_t row, int64_t bytes) const;

  // xxh3-128 of each tensor's bytes, by name. A directory reads everything once, on `threads`
  // threads (0 = all), and keeps them; a store has them.
  virtual const std::map<std::string, Digest>& tensor_digests(int threads = 0) const = 0;
  // Identifies the weights, whatever their sharding: over all tensors in the order of their names,
  // name, dtype, shape and digest of the bytes. A store has the digest of what it was made of.
  Digest digest(int threads = 0) const { return digest_of(tensor_digests(threads)); }
  // The same, when the tensors have these digests.
  Digest digest_of(const std::map<std::string, Digest>& digests) const;
  // From config.json, the headers and the file sizes only: cheap, and blind to changed values.
  Digest quick_digest() const;

  int64_t total_bytes() const;    // of all shards, headers included
  int64_t fetched_bytes() const;  // of weights, from the disk, by this object so far

 protected:
  explicit ModelDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  // `where`: the file, for messages.
  void set_config(std::string text, const std::string& where);
  void add_shard(std::unique_ptr<ModelShard> shard);

 private:
  std::filesystem::path path_;
  nlohmann::json config_;
  std::string config_text_;
  std::vector<std::unique_ptr<ModelShard>> shards_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

}  // namespace sutor
