// A base store: a Hugging Face directory as HDF5 tiles by global tensor name, with digests
// (checkpoint/FORMAT.md). Read with pread at recorded offsets, never through the HDF5 library;
// every block is checked against its checksum when it is used.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/format/corruption.h"
#include "checkpoint/huggingface/model_directory.h"
#include "checkpoint/store/store_index.h"
#include "checkpoint/store/store_manifest.h"
#include "checkpoint/store/store_shard.h"

namespace sutor {

inline constexpr const char* kStoreRemedy =
    "Make the store again: sutor convert --from <Hugging Face directory> --to <store> --overwrite.";

// Opening checks, in this order: the manifest's digest, version and names (E0341..E0343), the size
// of every file (E0344), config.json and the headers (E0347, E0303), the digest and content of
// every index (E0345), and that the tiles hold every byte of every tensor exactly once (E0346).
// Bytes that are not the ones that were written are E0347 naming file, tensor and block.
class BaseStore final : public ModelDirectory {
 public:
  explicit BaseStore(const std::filesystem::path& path);

  std::string_view kind() const override { return "base store"; }
  const StoreManifest& manifest() const { return manifest_; }
  std::filesystem::path files_root() const override;
  std::set<std::filesystem::path> other_files() const override;
  const std::map<std::string, Digest>& tensor_digests(int threads = 0) const override;

  // Reads everything on `threads` threads (0 = all): every block, every tensor's digest, all bytes
  // between tiles, all other files. What is not as it was written; a bad tile counts once.
  std::vector<Corruption> find_corruption(int threads = 0) const;
  // Throws the first of that, E0347.
  void verify(int threads = 0) const;

 private:
  using Shards = std::vector<StoreShard*>;

  void read_indices(const Shards& shards);
  void add_index(size_t number, const StoreIndex& index, const Shards& shards);
  void check_covered(const Shards& shards) const;
  StoreIndex load_index(size_t number) const;
  void check_tensor(const StoreShard& shard, size_t number, CorruptionList& corruption) const;
  void check_between_tiles(size_t number, CorruptionList& corruption) const;
  void check_other_file(const StoreOtherFile& file, CorruptionList& corruption) const;

  StoreManifest manifest_;
  std::unique_ptr<StoreFiles> files_;
  std::map<std::string, Digest> digests_;
};

}  // namespace sutor
