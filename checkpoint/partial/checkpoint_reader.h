// Reading a partial checkpoint: any rows and columns of any tensor, whatever layout wrote it.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/format/corruption.h"
#include "checkpoint/format/manifest.h"
#include "checkpoint/format/tile_index.h"
#include "csrc/base/file.h"
#include "parallel_state/model/sharded_tensor.h"

namespace sutor {

inline constexpr const char* kCheckpointRemedy =
    "Go on from another one: sutor train RECIPE --resume takes the newest that is whole.";

// Opening checks, in this order: the manifest's digest and version (E0341..E0343), the size of
// every file (E0344), the digest and content of every index (E0345), that the tiles cover every
// tensor exactly once (E0346), the digest of state.h5 (E0347). Data are checked when they are read.
class CheckpointReader {
 public:
  explicit CheckpointReader(const std::filesystem::path& directory);

  const std::filesystem::path& path() const { return path_; }
  const Manifest& manifest() const { return manifest_; }
  const CheckpointMeta& meta() const { return manifest_.meta; }  // `state` included
  // By name.
  const std::vector<IndexedTensor>& tensors() const { return tensors_; }
  bool has(std::string_view tensor) const { return stored_.contains(tensor); }

  // Fills the destination's rows and columns and verifies the checksum of every block it touches.
  // Throws E0348 when the tensor is not there or has another shape or dtype, E0347 naming file and
  // tile when the bytes are not the ones that were written. Thread-safe.
  void read(TensorKind kind, const ShardedTensor& destination) const;

  // Reads everything on `threads` threads (0 = all): tile digests, block checksums and all bytes
  // between tiles. What is not as it was written.
  std::vector<Corruption> find_corruption(int threads = 0) const;
  // Throws the first of that, E0347.
  void verify(int threads = 0) const;

 private:
  struct StoredTile {
    Tile tile;
    int writer = 0;
  };
  // Tiles by their columns [begin, end), those of the same ones by row_begin. None overlaps
  // another, so that of the same columns row_end rises as row_begin does.
  using TilesByColumns = std::map<std::pair<int64_t, int64_t>, std::vector<StoredTile>>;
  struct Stored {
    IndexedTensor tensor;
    std::array<TilesByColumns, std::size(kAllKinds)> columns;
  };

  void read_indices();
  TileIndex load_index(const FileRecord& record) const;
  void read_state();
  // What the tile holds of the destination.
  void read_tile(const IndexedTensor& tensor, const StoredTile& stored_tile,
                 const ShardedTensor& destination) const;
  // Bytes of the tile from `begin` on; throws E0347 when a block that they touch is damaged.
  void read_verified_bytes(const IndexedTensor& tensor, const StoredTile& stored_tile,
                           int64_t begin, std::span<std::byte> into) const;
  const InputFile& data_file(int writer) const;
  void check_between_tiles(const FileRecord& record, const TileIndex& index,
                           CorruptionList& corruption) const;
  void check_tile(int writer, const TileIndex& index, const Tile& tile,
                  CorruptionList& corruption) const;
  [[noreturn]] void fail_tile(const IndexedTensor& tensor, const StoredTile& stored_tile) const;

  struct Files {
    std::mutex mutex;
    std::map<int, InputFile> open;
  };

  std::filesystem::path path_;
  Manifest manifest_;
  std::vector<IndexedTensor> tensors_;
  std::map<std::string, Stored, std::less<>> stored_;
  std::unique_ptr<Files> files_ = std::make_unique<Files>();
};

}  // namespace sutor
