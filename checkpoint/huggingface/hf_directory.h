// A Hugging Face model directory: config.json and safetensors (one file, or shards with an index).
// Reads only headers until bytes are requested, and never writes into the directory.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "checkpoint/huggingface/model_directory.h"

namespace sutor {

class HfDirectory final : public ModelDirectory {
 public:
  // Opens every shard and checks its header, the index and their agreement.
  explicit HfDirectory(const std::filesystem::path& path);

  std::string_view kind() const override { return "model directory"; }
  std::filesystem::path files_root() const override { return path(); }
  std::set<std::filesystem::path> other_files() const override;
  const std::map<std::string, Digest>& tensor_digests(int threads = 0) const override;
  std::string index_warning() const override { return index_warning_; }

 private:
  void open_sharded();
  void open_shard(const std::string& file_name);

  struct DigestCache {
    std::mutex mutex;
    std::map<std::string, Digest> tensors;
    bool filled = false;
  };
  std::string index_warning_;
  std::unique_ptr<DigestCache> digests_ = std::make_unique<DigestCache>();
};

// All files below a directory, relative to it, without `.git` and `.cache`. Links to files count as
// files. Throws E0301 when the directory cannot be listed.
std::set<std::filesystem::path> files_below(const std::filesystem::path& directory);

}  // namespace sutor
