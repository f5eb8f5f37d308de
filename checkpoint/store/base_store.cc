#include "checkpoint/store/base_store.h"

#include <algorithm>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/store/store_layout.h"
#include "csrc/base/error.h"

namespace sutor {
namespace fs = std::filesystem;

BaseStore::BaseStore(const fs::path& path)
    : ModelDirectory(path),
      manifest_(read_store_manifest(path)),
      files_(std::make_unique<StoreFiles>(path)) {
  set_config(read_store_config(path, manifest_), (files_root() / "config.json").string());
  Shards shards;
  for (size_t i = 0; i < manifest_.shards.size(); ++i) {
    auto shard = std::make_unique<StoreShard>(*files_, i, manifest_.shards[i]);
    shards.push_back(shard.get());
    add_shard(std::move(shard));
  }
  read_indices(shards);
}

fs::path BaseStore::files_root() const { return path() / kStoreFilesFolder; }

std::set<fs::path> BaseStore::other_files() const {
  std::set<fs::path> files;
  for (const StoreOtherFile& file : manifest_.other_files) files.insert(file.path);
  return files;
}

const std::map<std::string, Digest>& BaseStore::tensor_digests(int) const { return digests_; }

StoreIndex BaseStore::load_index(size_t number) const {
  const StoreDataFile& record = manifest_.data_files[number];
  const fs::path file = path() / store_index_file(number);
  const std::string bytes = read_file(file, record.index_bytes);
  if (xxh3(bytes) != record.index_digest) {
    fail(ErrorCode::kBadTileIndex, "{} is damaged: its digest is not the one in the manifest",
         file.string());
  }
  StoreIndex index = decode_store_index(bytes, file.string());
  if (index.file_bytes != record.bytes) {
    fail(ErrorCode::kBadTileIndex, "{} is of a data file of {} bytes, but the manifest says {}",
         file.string(), index.file_bytes, record.bytes);
  }
  return index;
}

void BaseStore::read_indices(const Shards& shards) {
  for (size_t i = 0; i < manifest_.data_files.size(); ++i) add_index(i, load_index(i), shards);
  check_covered(shards);
  if (static_cast<int64_t>(num_tensors()) != manifest_.tensors) {
    fail(ErrorCode::kBadCoverage, "{}: the headers name {} tensors, but the manifest says {}",
         path().string(), num_tensors(), manifest_.tensors);
  }
  if (digest_of(digests_) != manifest_.weights) {
    fail(ErrorCode::kBadTileIndex,
         "{}: the tensors' digests are not those of the manifest's `weights`", path().string());
  }
}

void BaseStore::add_index(size_t number, const StoreIndex& index, const Shards& shards) {
  std::vector<TensorTiles*> tensor_tiles;
  for (const StoreTensor& tensor : index.tensors) {
    const auto stored = find(tensor.name);
    if (!stored || stored->entry->dtype_name != tensor.dtype ||
        stored->entry->shape != tensor.shape || stored->entry->num_bytes() != tensor.bytes) {
      fail(ErrorCode::kBadCoverage,
           "{} holds tensor `{}` as {} [{}] of {} bytes, which no header names",
           (path() / store_index_file(number)).string(), tensor.name, tensor.dtype,
           fmt::join(tensor.shape, ", "), tensor.bytes);
    }
    StoreShard& shard = *shards[stored->shard];
    TensorTiles& found =
        shard.tensor_tiles()[static_cast<size_t>(stored->entry - shard.tensors().data())];
    if (found.tiles.empty()) found.block_bytes = tensor.block_bytes;
    if (found.block_bytes != tensor.block_bytes ||
        (tensor.digest && !digests_.emplace(tensor.name, *tensor.digest).second)) {
      fail(ErrorCode::kBadCoverage, "{}: tensor `{}` is described twice, and not alike",
           (path() / store_index_file(number)).string(), tensor.name);
    }
    tensor_tiles.push_back(&found);
  }
  for (const StoreTile& tile : index.tiles) {
    tensor_tiles[tile.tensor]->tiles.push_back(
        {number, tile.begin, tile.bytes, tile.offset, tile.crcs});
  }
}

void BaseStore::check_covered(const Shards& shards) const {
  for (StoreShard* shard : shards) {
    for (size_t i = 0; i < shard->tensors().size(); ++i) {
      const SafetensorsEntry& entry = shard->tensors()[i];
      std::vector<TileLocation>& tiles = shard->tensor_tiles()[i].tiles;
      std::sort(tiles.begin(), tiles.end(),
                [](const TileLocation& a, const TileLocation& b) { return a.begin < b.begin; });
      int64_t covered = 0;
      const auto expect = [&](int64_t begin) {
        if (begin == covered) return;
        fail(ErrorCode::kBadCoverage, "{}: bytes {} to {} of tensor `{}` are {}", path().string(),
             std::min(begin, covered), std::max(begin, covered) - 1, entry.name,
             begin > covered ? "in no tile" : "in two tiles");
      };
      for (const TileLocation& tile : tiles) {
        expect(tile.begin);
        covered = tile.end();
      }
      expect(entry.num_bytes());
      if (!digests_.contains(entry.name)) {
        fail(ErrorCode::kBadCoverage, "{}: no index has the digest of tensor `{}`", path().string(),
             entry.name);
      }
    }
  }
}

}  // namespace sutor
