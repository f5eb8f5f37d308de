// A safetensors file of a base store: its header is kept as it was, its tensors are in tiles.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "checkpoint/format/tile_bytes.h"
#include "checkpoint/huggingface/model_shard.h"
#include "checkpoint/store/store_manifest.h"

namespace sutor {

// The data files of a store, opened on demand, a limited number at a time. Thread-safe.
class StoreFiles {
 public:
  explicit StoreFiles(std::filesystem::path store) : store_(std::move(store)) {}
  const std::filesystem::path& store() const { return store_; }
  std::shared_ptr<const InputFile> open(size_t number);

 private:
  std::filesystem::path store_;
  std::mutex mutex_;
  std::map<size_t, std::shared_ptr<const InputFile>> open_;
};

struct TileLocation {
  size_t file = 0;    // number of the data file
  int64_t begin = 0;  // first byte, counted in the tensor
  int64_t bytes = 0;
  int64_t offset = 0;  // in the data file
  std::vector<uint32_t> crcs;

  int64_t end() const { return begin + bytes; }
};

// The tiles of a tensor's bytes, in the order of `begin`, without gaps.
struct TensorTiles {
  int64_t block_bytes = kBlockBytes;
  std::vector<TileLocation> tiles;
};

class StoreShard final : public ModelShard {
 public:
  // Reads the header and checks it: E0347 for another digest, E0303 for an invalid one. `files`
  // must outlive the shard.
  StoreShard(StoreFiles& files, size_t number, const StoreShardRecord& record);

  // The tiles of each tensor, in the order of tensors(). To be set before anything is read.
  std::vector<TensorTiles>& tensor_tiles() { return tensor_tiles_; }
  const std::vector<TensorTiles>& tensor_tiles() const { return tensor_tiles_; }

  const std::string& name() const override { return record_.name; }
  std::string where() const override;
  int64_t size() const override { return record_.bytes; }
  const SafetensorsHeader& header() const override { return header_; }
  std::string header_bytes() const override;
  // Throws E0347 naming data file, tensor and block when a block is corrupt.
  void read_at(int64_t offset, std::span<std::byte> into) const override;
  int64_t last_read_end(int64_t begin, int64_t end) const override;

 protected:
  int64_t chunk_end(int64_t begin) const override;
  int64_t worth_skipping() const override;

 private:
  struct Found {
    size_t tensor = 0;  // in tensors()
    const TileLocation* location = nullptr;
    int64_t begin = 0;  // in the tile
  };
  Found find(int64_t offset) const;

  StoreFiles& files_;
  size_t number_;
  StoreShardRecord record_;
  SafetensorsHeader header_;
  std::vector<TensorTiles> tensor_tiles_;
};

}  // namespace sutor
