#include "checkpoint/partial/checkpoint_reader.h"

#include <algorithm>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/format/strided_ranges.h"
#include "checkpoint/format/tile_coverage.h"
#include "checkpoint/format/tile_sums.h"
#include "checkpoint/partial/state_file.h"
#include "csrc/base/error.h"
#include "csrc/base/parallel.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

// A read at each end of a gap fetches whole blocks, so for a shorter gap two reads fetch more.
constexpr int64_t kWorthSkipping = 2 * kBlockBytes;

}  // namespace

CheckpointReader::CheckpointReader(const fs::path& directory)
    : path_(directory), manifest_(read_manifest(directory)) {
  read_indices();
  read_state();
}

TileIndex CheckpointReader::load_index(const FileRecord& record) const {
  const fs::path path = path_ / index_file(record.writer);
  const std::string bytes = read_file(path, record.index_bytes);
  if (xxh3(bytes) != record.index_digest) {
    fail(ErrorCode::kBadTileIndex, "{} is corrupt: its digest is not the one in the manifest",
         path.string());
  }
  TileIndex index = decode_index(bytes, record.bytes, path.string());
  if (static_cast<int64_t>(index.tiles.size()) != record.tiles) {
    fail(ErrorCode::kBadTileIndex, "{} lists {} tiles, but the manifest says {}", path.string(),
         index.tiles.size(), record.tiles);
  }
  if (index.kinds != optimizer().kinds) {
    fail(ErrorCode::kBadTileIndex, "{} holds other state than the manifest says: {}, not {}",
         path.string(),
         OptimizerState{.optimizer = optimizer().optimizer, .kinds = index.kinds}.text(),
         optimizer().text());
  }
  return index;
}

void CheckpointReader::read_indices() {
  for (const FileRecord& record : manifest_.files) {
    TileIndex index = load_index(record);
    for (const IndexedTensor& tensor : index.tensors) {
      const auto [at, added] = stored_.try_emplace(tensor.name);
      if (added) at->second = {tensor, std::vector<TilesByColumns>(optimizer().kinds.size())};
      if (at->second.tensor != tensor) {
        fail(ErrorCode::kBadCoverage, "{}: writers give {} different shapes", path_.string(),
             tensor.name);
      }
    }
    for (Tile& tile : index.tiles) {
      Stored& stored = stored_.at(index.tensors[tile.tensor].name);
      auto& columns = stored.columns[tile.kind];
      auto& column = columns[{tile.col_begin, tile.col_end()}];
      column.push_back({std::move(tile), record.writer});
    }
  }
  for (auto& [name, stored] : stored_) {
    for (size_t kind = 0; kind < stored.columns.size(); ++kind) {
      std::vector<const Tile*> tiles;
      for (auto& [range, column_tiles] : stored.columns[kind]) {
        std::sort(column_tiles.begin(), column_tiles.end(),
                  [](const StoredTile& a, const StoredTile& b) {
                    return a.tile.row_begin < b.tile.row_begin;
                  });
        for (const StoredTile& stored_tile : column_tiles) tiles.push_back(&stored_tile.tile);
      }
      check_covered(stored.tensor, optimizer().kinds[kind].name, tiles, path_.string());
    }
    tensors_.push_back(stored.tensor);
  }
  if (static_cast<int64_t>(tensors_.size()) != manifest_.tensors) {
    fail(ErrorCode::kBadCoverage, "{}: the files have {} tensors, but the manifest says {}",
         path_.string(), tensors_.size(), manifest_.tensors);
  }
}

void CheckpointReader::read_state() {
  const fs::path path = path_ / kStateFile;
  if (xxh3(read_file(path, manifest_.state_bytes)) != manifest_.state_digest) {
    fail(ErrorCode::kCorrupted, "{} is corrupt: its digest is not the one in the manifest",
         path.string());
  }
  manifest_.meta.state = read_state_file(path, manifest_.meta.step);
}

const InputFile& CheckpointReader::data_file(int writer) const {
  const std::lock_guard lock(files_->mutex);
  const auto found = files_->open.find(writer);
  if (found != files_->open.end()) return found->second;
  return files_->open.emplace(writer, InputFile(path_ / writer_file(writer))).first->second;
}

void CheckpointReader::fail_tile(const IndexedTensor& tensor, const StoredTile& stored_tile) const {
  fail(ErrorCode::kCorrupted, "{} is corrupt: the bytes of {} are not the ones that were written",
       (path_ / writer_file(stored_tile.writer)).string(),
       dataset_path(tensor, kind_of(stored_tile).name, stored_tile.tile));
}

void CheckpointReader::read_verified_bytes(const IndexedTensor& tensor,
                                           const StoredTile& stored_tile, int64_t begin,
                                           std::span<std::byte> into) const {
  const Tile& tile = stored_tile.tile;
  const int64_t bytes =
      tile.row_count * tile.col_count * static_cast<int64_t>(size_of(kind_of(stored_tile).dtype));
  const TileBytes stored{tile.offset, bytes, kBlockBytes, tile.block_crcs};
  if (read_verified(data_file(stored_tile.writer), stored, begin, into).bad_block) {
    fail_tile(tensor, stored_tile);
  }
}

void CheckpointReader::read_tile(const IndexedTensor& tensor, const StoredTile& stored_tile,
                                 const ShardedTensor& destination) const {
  const Tile& tile = stored_tile.tile;
  const auto element = static_cast<int64_t>(size_of(destination.dtype));
  const int64_t row = std::max(destination.row_begin, tile.row_begin);
  const int64_t row_end = std::min(destination.row_begin + destination.row_count, tile.row_end());
  const int64_t col = std::max(destination.col_begin, tile.col_begin);
  const int64_t col_end = std::min(destination.col_begin + destination.columns(), tile.col_end());
  if (row >= row_end || col >= col_end) return;
  const StridedRanges from{
      .begin = ((row - tile.row_begin) * tile.col_count + col - tile.col_begin) * element,
      .bytes = (col_end - col) * element,
      .stride = tile.col_count * element,
      .count = row_end - row};
  const int64_t to_stride = destination.columns() * element;
  std::byte* to = destination.data + (row - destination.row_begin) * to_stride +
                  (col - destination.col_begin) * element;
  if (from.contiguous() && (from.count == 1 || from.bytes == to_stride)) {
    read_verified_bytes(tensor, stored_tile, from.begin,
                        {to, static_cast<size_t>(from.end() - from.begin)});
    return;
  }
  std::vector<std::byte> buffer;
  // In chunks that end where blocks end, so that no block is read and checked twice.
  const auto stream = [&](int64_t begin, int64_t end, const ByteSink& sink) {
    for (int64_t at = begin, next; at < end; at = next) {
      next = std::min((at / kBlockBytes + 1) * kBlockBytes, end);
      buffer.resize(static_cast<size_t>(next - at));
      read_verified_bytes(tensor, stored_tile, at, buffer);
      sink(buffer);
    }
  };
  stream_ranges(from, kWorthSkipping, stream, into_ranges(to, from.bytes, to_stride));
}

void CheckpointReader::read(std::string_view kind, const ShardedTensor& destination) const {
  const auto found = stored_.find(destination.name);
  if (found == stored_.end()) {
    fail(ErrorCode::kNotInCheckpoint, "{} does not have {}; it has {} trained tensors, e.g. {}",
         path_.string(), destination.name, tensors_.size(),
         tensors_.empty() ? "none" : tensors_.front().name);
  }
  const IndexedTensor& tensor = found->second.tensor;
  const size_t index = optimizer().index_of(kind);
  const DType dtype = optimizer().kinds[index].dtype;
  if (tensor.shape != destination.global_shape || dtype != destination.dtype) {
    fail(ErrorCode::kNotInCheckpoint, "{} has {} of {} as {} {}, but {} {} is wanted",
         path_.string(), kind, tensor.name, name_of(dtype), shape_text(tensor.shape),
         name_of(destination.dtype), shape_text(destination.global_shape));
  }
  SUTOR_ASSERT(destination.lies_inside());
  const int64_t row_end = destination.row_begin + destination.row_count;
  const int64_t col_end = destination.col_begin + destination.columns();
  for (const auto& [range, column_tiles] : found->second.columns[index]) {
    if (range.first >= col_end || range.second <= destination.col_begin) continue;
    auto stored_tile = std::upper_bound(
        column_tiles.begin(), column_tiles.end(), destination.row_begin,
        [](int64_t row, const StoredTile& candidate) { return row < candidate.tile.row_end(); });
    for (; stored_tile != column_tiles.end() && stored_tile->tile.row_begin < row_end;
         ++stored_tile) {
      read_tile(tensor, *stored_tile, destination);
    }
  }
}

void CheckpointReader::check_between_tiles(const FileRecord& record, const TileIndex& index,
                                           CorruptionList& corruption) const {
  const InputFile& file = data_file(record.writer);
  const Digest found = metadata_digest(file, index.ranges());
  if (found == record.metadata_digest) return;
  corruption.add({.file = file.path().string(),
                  .location = "bytes between its tiles",
                  .expected = record.metadata_digest.text(),
                  .found = found.text()});
}

void CheckpointReader::check_tile(int writer, const TileIndex& index, const Tile& tile,
                                  CorruptionList& corruption) const {
  const InputFile& file = data_file(writer);
  std::vector<std::byte> bytes(static_cast<size_t>(index.bytes_of(tile)));
  file.read_at(tile.offset, bytes);
  const TileSums found = tile_sums(bytes, index.kinds[tile.kind].dtype);
  if (found.digest == tile.digest && found.block_crcs == tile.block_crcs) return;
  corruption.add({.file = file.path().string(),
                  .location = "tile " + dataset_path(index.tensors[tile.tensor],
                                                     index.kinds[tile.kind].name, tile),
                  .expected = tile.digest.text(),
                  .found = found.digest.text()});
}

std::vector<Corruption> CheckpointReader::find_corruption(int threads) const {
  CorruptionList corruption(kCheckpointRemedy);
  for (const FileRecord& record : manifest_.files) {
    const fs::path path = path_ / writer_file(record.writer);
    TileIndex index;
    if (!corruption.check(path, [&] { index = load_index(record); })) continue;
    corruption.check(path, [&] { check_between_tiles(record, index, corruption); });
    parallel_tasks(threads, static_cast<int64_t>(index.tiles.size()), [&](int64_t i) {
      corruption.check(path, [&] {
        check_tile(record.writer, index, index.tiles[static_cast<size_t>(i)], corruption);
      });
    });
  }
  return corruption.take();
}

void CheckpointReader::verify(int threads) const {
  const std::vector<Corruption> corruption = find_corruption(threads);
  if (!corruption.empty()) fail(corruption[0].code, "{}", corruption[0].text());
}

}  // namespace sutor
