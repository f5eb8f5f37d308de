#include "checkpoint/store/store_writer.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "checkpoint/files/file_content.h"
#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/format/file_size.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/format_versions.h"
#include "csrc/base/hdf5/h5.h"
#include "csrc/base/parallel.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kAlignment = 4096;  // of large arrays, so that direct reads are possible
constexpr int64_t kMaxIndexBytes = int64_t{1} << 32;

// Inode, size and times of a file, which differ for another file under the same name.
std::string identity_of(const fs::path& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return fmt::format("{}: errno {}", path.string(), errno);
  return fmt::format("{} {} {} {}.{:09} {}.{:09}", path.string(), status.st_ino, status.st_size,
                     status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ctim.tv_sec,
                     status.st_ctim.tv_nsec);
}

// Writes a small file and moves it to content/.
void write_content(const StagingPaths& staging, const fs::path& name, std::string_view content) {
  const fs::path part = staging.new_part();
  write_new_file(part, content);
  staging.move_to_content(part, name);
}

std::string tile_path(const StoreSlice& slice, int64_t row) {
  return fmt::format("/{}/{}", store_group(slice.tensor.entry->name), row);
}

}  // namespace

std::string store_fingerprint(const ModelDirectory& source, const StorePlan& plan) {
  std::string text = fmt::format("base store {}, max_file_bytes {}\nsource {}\n", kBaseStoreVersion,
                                 plan.max_file_bytes, source.quick_digest().text());
  for (const auto& shard : source.shards()) {
    text += identity_of(source.path() / shard->name()) + "\n";
  }
  for (const std::string& file : plan.other_files) text += identity_of(source.path() / file) + "\n";
  return text;
}

std::optional<StoreIndex> finished_data_file(const StagingPaths& staging, size_t number) {
  const fs::path index_path = staging.content / store_index_file(number);
  if (!is_there(index_path)) return std::nullopt;
  try {
    StoreIndex index =
        decode_store_index(read_file(index_path, kMaxIndexBytes), index_path.string());
    check_file_size(staging.content / store_data_file(number), index.file_bytes);
    return index;
  } catch (const Error&) {
    return std::nullopt;  // it is written again
  }
}

StoreFileWriter::StoreFileWriter(const StoreFilePlan& plan, int64_t tile_bytes, size_t number,
                                 const StagingPaths& staging)
    : plan_(plan),
      tile_bytes_(tile_bytes),
      number_(number),
      staging_(staging),
      part_(staging.new_part()) {}

void StoreFileWriter::make_file() {
  file_.emplace(h5::File::create(part_, kAlignment));
  h5::File& file = *file_;
  for (const StoreSlice& slice : plan_.slices) {
    const SafetensorsEntry& entry = *slice.tensor.entry;
    const std::string group = "/" + store_group(entry.name);
    file.set_text(group, "dtype", entry.dtype_name);
    file.set_text(group, "shape", shape_text(entry.shape));
    index_.tensors.push_back({.name = entry.name,
                              .dtype = entry.dtype_name,
                              .shape = entry.shape,
                              .bytes = entry.num_bytes(),
                              .block_bytes = slice.layout.block_bytes});
    slice_tiles_.push_back({.first_tile = index_.tiles.size()});
    const int64_t step = slice.layout.tile_rows(tile_bytes_);
    std::vector<int64_t> dims = slice.layout.dims;
    int64_t row = slice.row_begin;
    do {  // an empty tensor has one empty dataset
      const int64_t rows = std::min(step, slice.row_end - row);
      if (!dims.empty()) dims[0] = rows;
      const h5::Dataset made = file.create_dataset(tile_path(slice, row), slice.layout.type, dims);
      if (made.bytes > 0) {
        index_.tiles.push_back({.tensor = static_cast<uint32_t>(slice_tiles_.size() - 1),
                                .begin = row * slice.layout.row_bytes,
                                .bytes = made.bytes,
                                .offset = made.offset});
      }
      row += rows;
    } while (row < slice.row_end);
    slice_tiles_.back().num_tiles = index_.tiles.size() - slice_tiles_.back().first_tile;
  }
  int64_t end = 0;
  for (const StoreTile& tile : index_.tiles) end = std::max(end, tile.offset + tile.bytes);
  file.reserve(end);
}

void StoreFileWriter::copy_slice(size_t number) {
  const StoreSlice& slice = plan_.slices[number];
  const SafetensorsEntry& entry = *slice.tensor.entry;
  StoreTensor& tensor = index_.tensors[number];
  Hasher hasher;
  for (size_t i = 0; i < slice_tiles_[number].num_tiles; ++i) {
    StoreTile& tile = index_.tiles[slice_tiles_[number].first_tile + i];
    BlockCrcs crcs(tensor.block_bytes);
    int64_t at = tile.offset;
    slice.tensor.file->stream(entry.begin + tile.begin, entry.begin + tile.begin + tile.bytes,
                              [&](std::span<const std::byte> chunk) {
                                crcs.update(chunk);
                                hasher.update(chunk);
                                file_->write_at(at, chunk);
                                at += static_cast<int64_t>(chunk.size());
                              });
    tile.crcs = crcs.take();
    file_->start_writing(tile.offset, tile.bytes);
  }
  if (slice.row_begin > 0) return;
  // The rest of a divided tensor is in other files, but the digest of all of it is in this index.
  slice.tensor.file->stream(entry.begin + slice.bytes(), entry.end,
                            [&](std::span<const std::byte> chunk) { hasher.update(chunk); });
  tensor.digest = hasher.digest();
}

void StoreFileWriter::copy(int threads) {
  make_file();
  parallel_tasks(threads, static_cast<int64_t>(plan_.slices.size()),
                 [&](int64_t i) { copy_slice(static_cast<size_t>(i)); });
}

void StoreFileWriter::finish() {
  const h5::File::Finished finished = file_->finish();
  index_.file_bytes = finished.bytes;
  index_.metadata_digest = finished.metadata;
  compare_tiles();
  staging_.move_to_content(part_, store_data_file(number_));
  write_content(staging_, store_index_file(number_), encode_store_index(index_));
}

// What the disk returns has the checksums of what was read from the source.
void StoreFileWriter::compare_tiles() const {
  const InputFile written(part_);
  std::vector<std::byte> bytes;
  for (const StoreTile& tile : index_.tiles) {
    const int64_t block_bytes = index_.tensors[tile.tensor].block_bytes;
    const TileBytes stored{tile.offset, tile.bytes, block_bytes, tile.crcs};
    const int64_t step = std::max(kBlockBytes / block_bytes, int64_t{1}) * block_bytes;
    for (int64_t at = 0; at < tile.bytes; at += step) {
      bytes.resize(static_cast<size_t>(std::min(step, tile.bytes - at)));
      if (!read_verified(written, stored, at, bytes).bad_block) continue;
      fail(ErrorCode::kWriteFailed,
           "{} does not hold what was written to it: bytes of tensor `{}` came back otherwise. The "
           "disk, its driver or the memory of this machine is at fault.",
           part_.string(), index_.tensors[tile.tensor].name);
    }
  }
}

StoreOtherFile copy_other_file(const ModelDirectory& source, const std::string& path,
                               const StagingPaths& staging, const fs::path& name) {
  const InputFile from(source.files_root() / path);
  const fs::path part = staging.new_part();
  OutputFile to(part);
  to.reserve(from.size());
  const Digest digest = append_hashed(from, to);
  const int64_t bytes = to.written();
  to.finish();
  staging.move_to_content(part, name);
  return {path, bytes, digest};
}

void write_store_manifest(const ModelDirectory& source, const StorePlan& plan,
                          std::vector<StoreOtherFile> other_files, const nlohmann::json& provenance,
                          const StagingPaths& staging) {
  StoreManifest manifest;
  manifest.max_file_bytes = plan.max_file_bytes;
  manifest.tensors = static_cast<int64_t>(source.num_tensors());
  manifest.provenance = provenance;
  manifest.other_files = std::move(other_files);
  std::sort(manifest.other_files.begin(), manifest.other_files.end(),
            [](const StoreOtherFile& a, const StoreOtherFile& b) { return a.path < b.path; });
  for (size_t i = 0; i < source.shards().size(); ++i) {
    const ModelShard& shard = *source.shards()[i];
    const std::string header = shard.header_bytes();
    write_content(staging, store_header_file(i), header);
    manifest.shards.push_back(
        {shard.name(), shard.size(), static_cast<int64_t>(header.size()), xxh3(header)});
    manifest.data_bytes += shard.size() - static_cast<int64_t>(header.size());
  }
  std::map<std::string, Digest> digests;
  for (size_t i = 0; i < plan.files.size(); ++i) {
    const fs::path path = staging.content / store_index_file(i);
    const std::string bytes = read_file(path, kMaxIndexBytes);
    const StoreIndex index = decode_store_index(bytes, path.string());
    for (const StoreTensor& tensor : index.tensors) {
      if (tensor.digest) digests[tensor.name] = *tensor.digest;
    }
    manifest.data_files.push_back(
        {index.file_bytes, static_cast<int64_t>(bytes.size()), xxh3(bytes)});
  }
  manifest.weights = source.digest_of(digests);
  write_content(staging, kManifestFile, encode_store_manifest(manifest));
}

}  // namespace sutor
