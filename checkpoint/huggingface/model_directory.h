// A model on disk: config.json, weights as a set of safetensors files, and all other files beside
// them. It is a Hugging Face directory (hf_directory.h) or a base store made from one
// (base_store.h); readers of weights need not know which. Errors: E0300 config.json, E0301 missing
// files or tensors, E0302 wrong shape, E0303 a broken or truncated safetensors file, E0304
// contradicting shards, E0307 a dtype that sutor does not compute with; for a base store E0341 to
// E0347 as well.
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
#include "checkpoint/quantized/quantization_config.h"
#include "csrc/base/hash.h"
#include "parallel_state/model/sharded_tensor.h"
#include "parallel_state/model/tensor_map.h"

namespace sutor {

// What a config.json may have.
inline constexpr int64_t kMaxConfigFileBytes = int64_t{16} << 20;

// The value of config.json's `dtype` (transformers 5) or `torch_dtype`: F32, BF16 or F16; F32 when
// there is none. Throws E0307 for another value.
DType config_dtype(const nlohmann::json& config);

class ModelDirectory {
 public:
  virtual ~ModelDirectory() = default;

  virtual std::string_view kind() const = 0;  // "model directory" or "base store"
  const std::filesystem::path& path() const { return path_; }
  const nlohmann::json& config() const { return config_; }
  const QuantizationConfig& quantization() const { return quantization_; }
  // In the order of their names; a single one for a model that is not sharded.
  const std::vector<std::unique_ptr<ModelShard>>& shards() const { return shards_; }
  size_t num_tensors() const { return tensors_.size(); }
  // All tensors by name.
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }
  std::optional<StoredTensor> find(std::string_view name) const;

  // The folder with config.json and all other files.
  virtual std::filesystem::path files_root() const = 0;
  // All files but the shards, relative to files_root(), in subfolders too.
  virtual std::set<std::filesystem::path> other_files() const = 0;

  // The first of the tensor's sources that the directory has; nothing when it has none. Throws
  // E0302 when its shape is not the expected one.
  std::optional<ResolvedSource> resolve(const TensorEntry& tensor) const;
  // The stored names that could each supply the tensor, in order of preference: resolve() takes the
  // first. More than one is a contradiction, see tensor_fit.h.
  std::vector<std::string> stored_forms(const TensorEntry& tensor) const;
  // Checks that every tensor of the model is here (E0314 lists missing ones), in the right shape
  // (E0302) and in a dtype that sutor computes with (E0307).
  void check(const TensorMap& model) const;
  // Stored tensors that no tensor of the model is read from, sorted by name. A merged export keeps
  // them.
  std::vector<std::string> unexpected(const TensorMap& model) const;

  // Fills the destination's rows and columns, converted to its dtype (round to nearest even).
  // Thread-safe; needs a bounded amount of other memory. Throws as check() does.
  void load(const TensorEntry& tensor, const ShardedTensor& destination) const;

  // The row at which a read of about `bytes` bytes that begins at row `row` should end: where the
  // last tile within reach ends, so that adjacent reads fetch nothing twice. The number of rows
  // when no tile ends within reach.
  int64_t read_end_row(const TensorEntry& tensor, int64_t row, int64_t bytes) const;

  // xxh3-128 of each tensor's bytes, by name. A directory reads everything once, on `threads`
  // threads (0 = all), and keeps the digests; a store has them on disk.
  virtual const std::map<std::string, Digest>& tensor_digests(int threads = 0) const = 0;
  // What is odd about how the files are listed though nothing depends on it (W0306); else empty.
  virtual std::string index_warning() const { return ""; }
  // Identifies the weights, whatever their sharding: over name, dtype, shape and digest of the
  // bytes of all tensors in the order of their names. A store has the digest of its source.
  Digest digest(int threads = 0) const { return digest_of(tensor_digests(threads)); }
  // The same for tensors with these digests.
  Digest digest_of(const std::map<std::string, Digest>& digests) const;
  // From config.json, the headers and the file sizes only: cheap, but blind to changed values.
  Digest quick_digest() const;

  int64_t total_bytes() const;    // of all shards, with headers
  int64_t fetched_bytes() const;  // bytes of weights that this object has read from the disk

 protected:
  explicit ModelDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  // `where`: the file, for messages.
  void set_config(std::string text, const std::string& where);
  void add_shard(std::unique_ptr<ModelShard> shard);

 private:
  // Finds what belongs to a quantised matrix that is not yet located.
  void add_scales(ResolvedSource& found) const;
  // Throws E0307 when a plain tensor has scales nevertheless: nobody can tell what it stands for.
  void require_plain(const ResolvedSource& found) const;

  std::filesystem::path path_;
  nlohmann::json config_;
  QuantizationConfig quantization_;
  std::string config_text_;
  std::vector<std::unique_ptr<ModelShard>> shards_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

}  // namespace sutor
