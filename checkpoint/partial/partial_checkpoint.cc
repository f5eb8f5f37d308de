#include "checkpoint/partial/partial_checkpoint.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <map>
#include <tuple>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/format/tile_coverage.h"
#include "checkpoint/format/tile_sums.h"
#include "checkpoint/partial/checkpoint_check.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "checkpoint/partial/state_file.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/hdf5/h5.h"
#include "csrc/base/owner/process_owner.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kAlignment = 4096;  // of large arrays, so that direct reads are possible
constexpr int64_t kMaxIndexBytes = int64_t{1} << 32;

// Of the dataset that holds the tile: columns of rows have lost the other axes.
std::vector<int64_t> shape_of(const IndexedTensor& tensor, const Tile& tile) {
  if (tile.col_count != tensor.row_elements()) return {tile.row_count, tile.col_count};
  std::vector<int64_t> shape = tensor.shape;
  shape[0] = tile.row_count;
  return shape;
}

struct Gathered {
  std::vector<FileRecord> files;
  std::vector<TileIndex> indices;  // of each file
};

// Reads back the indices of all writers, as they lie in the staging directory.
Gathered gather(const fs::path& staging, const std::vector<std::string>& records) {
  Gathered gathered;
  for (const std::string& text : records) {
    const nlohmann::json record = nlohmann::json::parse(text, nullptr, false);
    if (!record.is_null()) gathered.files.push_back(file_record(record, "a writer's record"));
  }
  std::sort(gathered.files.begin(), gathered.files.end(),
            [](const FileRecord& a, const FileRecord& b) { return a.writer < b.writer; });
  for (const FileRecord& file : gathered.files) {
    const fs::path index = staging / index_file(file.writer);
    const std::string bytes = read_file(index, kMaxIndexBytes);
    if (xxh3(bytes) != file.index_digest) {
      fail(ErrorCode::kBadTileIndex, "{} is not what writer {} wrote", index.string(), file.writer);
    }
    gathered.indices.push_back(decode_index(bytes, file.bytes, index.string()));
  }
  return gathered;
}

void check_wanted(const Gathered& gathered, const std::vector<IndexedTensor>& wanted,
                  const OptimizerState& optimizer, const std::string& where) {
  std::map<std::pair<std::string, uint32_t>, std::vector<const Tile*>> found;
  std::map<std::string, const IndexedTensor*> expected;
  for (const IndexedTensor& tensor : wanted) expected[tensor.name] = &tensor;
  for (const TileIndex& index : gathered.indices) {
    SUTOR_ASSERT(index.kinds == optimizer.kinds);
    for (const IndexedTensor& tensor : index.tensors) {
      const auto at = expected.find(tensor.name);
      if (at == expected.end()) {
        fail(ErrorCode::kBadCoverage, "{}: tensor {} was written but is not to be trained", where,
             tensor.name);
      }
      if (*at->second != tensor) {
        fail(ErrorCode::kBadCoverage, "{}: tensor {} was written as {}, but is {}", where,
             tensor.name, shape_text(tensor.shape), shape_text(at->second->shape));
      }
    }
    for (const Tile& tile : index.tiles) {
      found[{index.tensors[tile.tensor].name, tile.kind}].push_back(&tile);
    }
  }
  for (const IndexedTensor& tensor : wanted) {
    for (uint32_t kind = 0; kind < optimizer.kinds.size(); ++kind) {
      check_covered(tensor, optimizer.kinds[kind].name, found[{tensor.name, kind}], where);
    }
  }
}

// Moves a damaged checkpoint of the same step out of the way; a good one stays, and so does one
// about which nothing can be said.
void clear_final_path(const fs::path& final_path) {
  if (!is_name_taken(final_path)) return;
  try {
    check_checkpoint(final_path, CheckDepth::kData);
  } catch (const Error& problem) {
    if (is_damage(problem.code())) {
      remove_checkpoint(final_path);
      return;
    }
    fail(ErrorCode::kOutputExists, "{} exists already, and whether it is good cannot be told: {}",
         final_path.string(), problem.what());
  }
  fail(ErrorCode::kOutputExists, "{} exists already and is complete. Resume from it, or remove it.",
       final_path.string());
}

}  // namespace

void begin_checkpoint(const fs::path& root, int64_t step, const std::string& uuid, int64_t bytes) {
  make_directory(root);
  require_space(root, bytes);
  const fs::path staging = staging_directory(root, step, uuid);
  if (::mkdir(staging.c_str(), 0700) != 0) {
    if (errno == EEXIST) fail(ErrorCode::kOutputExists, "{} exists already", staging.string());
    fail_write(staging, "make directory", errno);
  }
  try {
    write_owner(staging / kOwnerFile);
  } catch (const Error&) {
    discard_checkpoint(root, step, uuid);
    throw;
  }
}

void discard_checkpoint(const fs::path& root, int64_t step, const std::string& uuid) {
  remove_tree(staging_directory(root, step, uuid));
}

CheckpointWriter::CheckpointWriter(const fs::path& root, int64_t step, const std::string& uuid,
                                   int writer, std::vector<StateKind> kinds)
    : staging_(staging_directory(root, step, uuid)), writer_(writer), kinds_(std::move(kinds)) {
  SUTOR_ASSERT(writer >= 0);
}

void CheckpointWriter::add(std::string_view kind, const ShardedTensor& piece, Fetch fetch) {
  const auto index = static_cast<uint32_t>(OptimizerState{.kinds = kinds_}.index_of(kind));
  SUTOR_ASSERT(piece.dtype == kinds_[index].dtype);
  SUTOR_ASSERT(!piece.global_shape.empty() && piece.lies_inside());
  SUTOR_ASSERT(!piece.name.empty() && piece.name.find('/') == std::string::npos);
  const bool no_columns = piece.columns() == 0 && !piece.has_whole_rows();
  if (piece.row_count > 0 && !no_columns) parts_.push_back({index, piece, std::move(fetch)});
}

TileIndex CheckpointWriter::plan(std::vector<const Part*>& part_of_tile) const {
  std::vector<const Part*> sorted;
  for (const Part& part : parts_) sorted.push_back(&part);
  const auto order = [](const Part* part) {
    const ShardedTensor& piece = part->piece;
    return std::tie(piece.name, part->kind, piece.row_begin, piece.col_begin);
  };
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](const Part* a, const Part* b) { return order(a) < order(b); });
  TileIndex index{.kinds = kinds_};
  for (const Part* part : sorted) {
    const ShardedTensor& piece = part->piece;
    const IndexedTensor tensor{piece.name, piece.global_shape};
    if (index.tensors.empty() || index.tensors.back().name != piece.name) {
      index.tensors.push_back(tensor);
    }
    SUTOR_ASSERT(index.tensors.back() == tensor);
    const int64_t row_bytes = piece.columns() * static_cast<int64_t>(size_of(piece.dtype));
    const int64_t step = std::max<int64_t>(1, kTileBytes / std::max<int64_t>(1, row_bytes));
    for (int64_t row = 0; row < piece.row_count; row += step) {
      Tile tile;
      tile.tensor = static_cast<uint32_t>(index.tensors.size() - 1);
      tile.kind = part->kind;
      tile.row_begin = piece.row_begin + row;
      tile.row_count = std::min(step, piece.row_count - row);
      tile.col_begin = piece.col_begin;
      tile.col_count = piece.columns();
      index.tiles.push_back(tile);
      part_of_tile.push_back(part);
    }
  }
  return index;
}

// The tiles get their offsets and checksums.
h5::File::Finished CheckpointWriter::write_tiles(const fs::path& path,
                                                 const std::vector<const Part*>& part_of_tile,
                                                 TileIndex& index) const {
  h5::File file = h5::File::create(path, kAlignment);
  int64_t planned = 0;
  for (const Tile& tile : index.tiles) planned += index.bytes_of(tile);
  file.reserve(planned);
  uint32_t described = ~uint32_t{0};
  for (size_t i = 0; i < index.tiles.size(); ++i) {
    Tile& tile = index.tiles[i];
    const IndexedTensor& tensor = index.tensors[tile.tensor];
    const StateKind& kind = index.kinds[tile.kind];
    if (described != tile.tensor) {
      file.set_text("/" + tensor.name, "shape", shape_text(tensor.shape));
      described = tile.tensor;
    }
    const auto write = [&](const ShardedTensor& rows) {
      const std::span<const std::byte> bytes(rows.data, static_cast<size_t>(index.bytes_of(tile)));
      const TileSums sums = tile_sums(bytes, kind.dtype);
      if (!sums.all_finite) {
        fail(ErrorCode::kDiverged, "{} of {} holds a value that is not finite in {}: not saved",
             kind.name, tensor.name,
             extent_text(tensor, tile.row_begin, tile.row_end(), tile.col_begin, tile.col_end()));
      }
      const h5::Dataset written =
          file.write(dataset_path(tensor, kind.name, tile), name_of(kind.dtype),
                     shape_of(tensor, tile), bytes, sums.digest);
      file.start_writing(written.offset, written.bytes);
      tile.block_crcs = sums.block_crcs;
      tile.digest = sums.digest;
      tile.offset = written.offset;
    };
    const Part& part = *part_of_tile[i];
    ShardedTensor rows = part.piece;
    rows.row_begin = tile.row_begin;
    rows.row_count = tile.row_count;
    if (part.piece.data == nullptr) {
      part.fetch(rows, write);
      continue;
    }
    const int64_t row_bytes = rows.columns() * static_cast<int64_t>(size_of(rows.dtype));
    rows.data += (tile.row_begin - part.piece.row_begin) * row_bytes;
    write(rows);
  }
  return file.finish();
}

std::string CheckpointWriter::write() {
  std::vector<const Part*> part_of_tile;
  TileIndex index = plan(part_of_tile);
  if (index.tiles.empty()) return "null";
  const fs::path data = staging_ / writer_file(writer_);
  const h5::File::Finished finished = write_tiles(data, part_of_tile, index);
  FileRecord record;
  record.writer = writer_;
  record.tiles = static_cast<int64_t>(index.tiles.size());
  record.bytes = finished.bytes;
  record.metadata_digest = finished.metadata;
  const std::string encoded = encode_index(index);
  record.index_bytes = static_cast<int64_t>(encoded.size());
  record.index_digest = xxh3(encoded);
  write_new_file(staging_ / index_file(writer_), encoded);
  return to_json(record).dump();
}

fs::path publish_checkpoint(const fs::path& root, int64_t step, const std::string& uuid,
                            const std::vector<std::string>& records, const CheckpointMeta& meta,
                            const std::vector<IndexedTensor>& wanted) {
  SUTOR_ASSERT(meta.step == step);
  const fs::path staging = staging_directory(root, step, uuid);
  const fs::path final_path = root / step_directory(step);
  const Gathered gathered = gather(staging, records);
  check_wanted(gathered, wanted, meta.optimizer, final_path.string());

  Manifest manifest;
  manifest.meta = meta;
  manifest.uuid = uuid;
  manifest.files = gathered.files;
  manifest.tensors = static_cast<int64_t>(wanted.size());
  for (const IndexedTensor& tensor : wanted) {
    manifest.parameters += tensor.rows() * tensor.row_elements();
  }
  const WrittenState state = write_state_file(staging / kStateFile, meta);
  manifest.state_bytes = state.bytes;
  manifest.state_digest = state.digest;

  write_new_file(staging / kManifestFile, encode_manifest(manifest));
  std::error_code error;
  fs::remove(staging / kOwnerFile, error);
  if (error) fail_write(staging / kOwnerFile, "remove", error.value());
  // The check that every reader makes, on the very files that will be published.
  read_manifest(staging);
  if (::chmod(staging.c_str(), new_directory_mode()) != 0) {
    fail_write(staging, "set mode of", errno);
  }
  fsync_directory(staging);
  clear_final_path(final_path);
  rename_new(staging, final_path);
  fsync_directory(root);
  note_valid_checkpoint(final_path);
  write_pointer(root, kLatestPointer, step);
  return final_path;
}

int64_t estimate_checkpoint_bytes(const std::vector<IndexedTensor>& wanted,
                                  const std::vector<StateKind>& kinds) {
  int64_t total = int64_t{1} << 20;
  for (const IndexedTensor& tensor : wanted) {
    for (const StateKind& kind : kinds) {
      const int64_t bytes = tensor.rows() * tensor.row_bytes(kind.dtype);
      const int64_t tiles = bytes / kTileBytes + 1;
      total += bytes + bytes / 50 + 1024 * tiles;
    }
  }
  return total;
}

}  // namespace sutor
