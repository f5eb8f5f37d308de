#include "checkpoint/checkpoint_reader.h"

#include <algorithm>

#include "checkpoint/checkpoint_paths.h"
#include "checkpoint/state_file.h"
#include "csrc/base/error.h"
#include "csrc/base/parallel.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace

void check_rows_covered(const IndexedTensor& tensor, TensorKind kind,
                        const std::vector<std::pair<int64_t, int64_t>>& row_ranges,
                        const std::string& where) {
  auto sorted = row_ranges;
  sorted.emplace_back(tensor.rows(), tensor.rows());
  std::sort(sorted.begin(), sorted.end());
  int64_t covered = 0;
  for (const auto& [begin, end] : sorted) {
    if (begin != covered) {
      fail(346, "{}: rows {} to {} of {} ({}) are there {}", where, std::min(begin, covered),
           std::max(begin, covered) - 1, tensor.name, name_of(kind),
           begin > covered ? "in no writer's file" : "more than once");
    }
    covered = end;
  }
}

CheckpointReader::CheckpointReader(const fs::path& directory)
    : path_(directory), manifest_(read_manifest(directory)) {
  read_indices();
  read_state();
}

TileIndex CheckpointReader::load_index(const FileRecord& record) const {
  const fs::path path = path_ / index_file(record.writer);
  const std::string bytes = read_file(path, record.index_bytes);
  if (xxh3(bytes) != record.index_digest) {
    fail(345, "{} is damaged: its digest is not the one in the manifest", path.string());
  }
  TileIndex index = decode_index(bytes, record.bytes, path.string());
  if (static_cast<int64_t>(index.tiles.size()) != record.tiles) {
    fail(345, "{} lists {} tiles, but the manifest says {}", path.string(), index.tiles.size(),
         record.tiles);
  }
  return index;
}

void CheckpointReader::read_indices() {
  for (const FileRecord& record : manifest_.files) {
    TileIndex index = load_index(record);
    for (const IndexedTensor& tensor : index.tensors) {
      const auto [at, added] = stored_.try_emplace(tensor.name);
      if (added) at->second.tensor = tensor;
      if (at->second.tensor != tensor) {
        fail(346, "{}: writers give {} different shapes", path_.string(), tensor.name);
      }
    }
    for (Tile& tile : index.tiles) {
      Stored& stored = stored_.at(index.tensors[tile.tensor].name);
      stored.places[static_cast<size_t>(tile.kind)].push_back({std::move(tile), record.writer});
    }
  }
  for (auto& [name, stored] : stored_) {
    for (const TensorKind kind : kAllKinds) {
      auto& places = stored.places[static_cast<size_t>(kind)];
      std::sort(places.begin(), places.end(),
                [](const Place& a, const Place& b) { return a.tile.row_begin < b.tile.row_begin; });
      std::vector<std::pair<int64_t, int64_t>> rows;
      for (const Place& place : places)
        rows.emplace_back(place.tile.row_begin, place.tile.row_end());
      check_rows_covered(stored.tensor, kind, rows, path_.string());
    }
    tensors_.push_back(stored.tensor);
  }
  if (static_cast<int64_t>(tensors_.size()) != manifest_.tensors) {
    fail(346, "{}: the files hold {} tensors, but the manifest says {}", path_.string(),
         tensors_.size(), manifest_.tensors);
  }
}

void CheckpointReader::read_state() {
  const fs::path path = path_ / kStateFile;
  if (xxh3(read_file(path, manifest_.state_bytes)) != manifest_.state_digest) {
    fail(347, "{} is damaged: its digest is not the one in the manifest", path.string());
  }
  manifest_.meta.state = read_state_file(path, manifest_.meta.step);
}

const InputFile& CheckpointReader::data_file(int writer) const {
  const std::lock_guard lock(files_->mutex);
  const auto found = files_->open.find(writer);
  if (found != files_->open.end()) return found->second;
  return files_->open.emplace(writer, InputFile(path_ / writer_file(writer))).first->second;
}

void CheckpointReader::fail_tile(const IndexedTensor& tensor, const Place& place) const {
  fail(347, "{} is damaged: the bytes of {} are not the ones that were written",
       (path_ / writer_file(place.writer)).string(),
       dataset_path(tensor.name, place.tile.kind, place.tile.row_begin));
}

void CheckpointReader::read_piece(const IndexedTensor& tensor, const Place& place,
                                  int64_t row_begin, int64_t row_end, std::byte* into) const {
  const Tile& tile = place.tile;
  const int64_t row_bytes = tensor.row_bytes();
  const int64_t begin = (row_begin - tile.row_begin) * row_bytes;
  const std::span bytes(into, static_cast<size_t>((row_end - row_begin) * row_bytes));
  const TileBytes stored{tile.offset, tile.row_count * row_bytes, kBlockBytes, tile.block_crcs};
  if (read_verified(data_file(place.writer), stored, begin, bytes).bad_block) {
    fail_tile(tensor, place);
  }
}

void CheckpointReader::read(TensorKind kind, const ShardedTensor& destination) const {
  const auto found = stored_.find(destination.name);
  if (found == stored_.end()) {
    fail(348, "{} does not hold {}; it holds {} trained tensors, e.g. {}", path_.string(),
         destination.name, tensors_.size(), tensors_.empty() ? "none" : tensors_.front().name);
  }
  const IndexedTensor& tensor = found->second.tensor;
  if (tensor.shape != destination.global_shape || tensor.dtype != destination.dtype) {
    fail(348, "{} holds {} as {} {}, but {} {} is wanted", path_.string(), tensor.name,
         name_of(tensor.dtype), shape_text(tensor.shape), name_of(destination.dtype),
         shape_text(destination.global_shape));
  }
  const int64_t begin = destination.row_begin;
  const int64_t end = begin + destination.row_count;
  SUTOR_ASSERT(begin >= 0 && begin <= end && end <= tensor.rows());
  const auto& places = found->second.places[static_cast<size_t>(kind)];
  auto place = std::upper_bound(
      places.begin(), places.end(), begin,
      [](int64_t row, const Place& candidate) { return row < candidate.tile.row_end(); });
  for (; place != places.end() && place->tile.row_begin < end; ++place) {
    const int64_t piece_begin = std::max(begin, place->tile.row_begin);
    const int64_t piece_end = std::min(end, place->tile.row_end());
    read_piece(tensor, *place, piece_begin, piece_end,
               destination.data + (piece_begin - begin) * tensor.row_bytes());
  }
}

void CheckpointReader::check_between_tiles(const FileRecord& record, const TileIndex& index,
                                           DamageList& damage) const {
  const InputFile& file = data_file(record.writer);
  const Digest found = metadata_digest(file, index.ranges());
  if (found == record.metadata_digest) return;
  damage.add({.file = file.path().string(),
              .part = "bytes between its tiles",
              .expected = record.metadata_digest.text(),
              .found = found.text()});
}

void CheckpointReader::check_tile(int writer, const TileIndex& index, const Tile& tile,
                                  DamageList& damage) const {
  const InputFile& file = data_file(writer);
  std::vector<std::byte> bytes(static_cast<size_t>(index.bytes_of(tile)));
  file.read_at(tile.offset, bytes);
  const Digest found = xxh3(bytes);
  if (found == tile.digest && block_crcs(bytes) == tile.block_crcs) return;
  damage.add(
      {.file = file.path().string(),
       .part = "tile " + dataset_path(index.tensors[tile.tensor].name, tile.kind, tile.row_begin),
       .expected = tile.digest.text(),
       .found = found.text()});
}

std::vector<Damage> CheckpointReader::find_damage(int threads) const {
  DamageList damage(kCheckpointRemedy);
  for (const FileRecord& record : manifest_.files) {
    const fs::path path = path_ / writer_file(record.writer);
    TileIndex index;
    if (!damage.check(path, [&] { index = load_index(record); })) continue;
    damage.check(path, [&] { check_between_tiles(record, index, damage); });
    parallel_tasks(threads, static_cast<int64_t>(index.tiles.size()), [&](int64_t i) {
      damage.check(path, [&] {
        check_tile(record.writer, index, index.tiles[static_cast<size_t>(i)], damage);
      });
    });
  }
  return damage.take();
}

void CheckpointReader::verify(int threads) const {
  const std::vector<Damage> damage = find_damage(threads);
  if (!damage.empty()) fail(damage[0].code, "{}", damage[0].text());
}

}  // namespace sutor
