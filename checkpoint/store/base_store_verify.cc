// BaseStore::find_corruption: every block, every tensor's digest, all bytes between tiles, all
// other files.
#include <algorithm>

#include "checkpoint/files/file_content.h"
#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/store/base_store.h"
#include "csrc/base/error.h"
#include "csrc/base/parallel.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

using BlockSink = std::function<void(std::span<const std::byte>)>;

// Reads a tile about 1 MiB at a time. Returns the number of the first bad block, if any.
std::optional<int64_t> read_tile(const InputFile& file, const TileBytes& tile,
                                 const BlockSink& sink) {
  const int64_t step = std::max<int64_t>(1, kBlockBytes / tile.block_bytes) * tile.block_bytes;
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(step, tile.bytes)));
  for (int64_t at = 0; at < tile.bytes; at += step) {
    const auto chunk =
        std::span(buffer).first(static_cast<size_t>(std::min(step, tile.bytes - at)));
    const VerifiedRead read = read_verified(file, tile, at, chunk);
    if (read.bad_block) return read.bad_block;
    sink(chunk);
  }
  return std::nullopt;
}

uint32_t crc_of_block(const InputFile& file, const TileBytes& tile, int64_t block) {
  const int64_t begin = block * tile.block_bytes;
  std::vector<std::byte> bytes(static_cast<size_t>(std::min(tile.block_bytes, tile.bytes - begin)));
  file.read_at(tile.offset + begin, bytes);
  return crc32c(bytes);
}

}  // namespace

// One line a bad tile; where all tiles are good, the digest of all their bytes must be as well.
void BaseStore::check_tensor(const StoreShard& shard, size_t number,
                             CorruptionList& corruption) const {
  const SafetensorsEntry& entry = shard.tensors()[number];
  const TensorTiles& tensor_tiles = shard.tensor_tiles()[number];
  Hasher hasher;
  bool all_good = true;
  for (const TileLocation& location : tensor_tiles.tiles) {
    const auto file = files_->open(location.file);
    const TileBytes tile{location.offset, location.bytes, tensor_tiles.block_bytes, location.crcs};
    const auto bad =
        read_tile(*file, tile, [&](std::span<const std::byte> chunk) { hasher.update(chunk); });
    if (!bad) continue;
    all_good = false;
    corruption.add({.file = file->path().string(),
                    .location = fmt::format(
                        "tensor `{}`, tile at its byte {}, block at byte {} of the file",
                        entry.name, location.begin, location.offset + *bad * tile.block_bytes),
                    .expected = fmt::format("crc32c {:08x}", tile.crcs[static_cast<size_t>(*bad)]),
                    .found = fmt::format("{:08x}", crc_of_block(*file, tile, *bad))});
  }
  if (!all_good || hasher.digest() == digests_.at(entry.name)) return;
  corruption.add({.file = shard.where(),
                  .location = fmt::format("tensor `{}`", entry.name),
                  .expected = digests_.at(entry.name).text(),
                  .found = hasher.digest().text()});
}

void BaseStore::check_between_tiles(size_t number, CorruptionList& corruption) const {
  const StoreIndex index = load_index(number);
  const auto file = files_->open(number);
  const Digest found = metadata_digest(*file, index.ranges());
  if (found == index.metadata_digest) return;
  corruption.add({.file = file->path().string(),
                  .location = "bytes between its tiles",
                  .expected = index.metadata_digest.text(),
                  .found = found.text()});
}

void BaseStore::check_other_file(const StoreOtherFile& file, CorruptionList& corruption) const {
  const fs::path other = files_root() / file.path;
  const Digest found = content_digest(InputFile(other));
  if (found == file.digest) return;
  corruption.add({.file = other.string(), .expected = file.digest.text(), .found = found.text()});
}

std::vector<Corruption> BaseStore::find_corruption(int threads) const {
  CorruptionList corruption(kStoreRemedy);
  std::vector<std::function<void()>> tasks;
  const auto add = [&](const std::string& file, std::function<void()> check) {
    tasks.emplace_back([&corruption, file, check] { corruption.check(file, check); });
  };
  for (const auto& each : shards()) {
    const auto& shard = static_cast<const StoreShard&>(*each);
    for (size_t i = 0; i < shard.tensors().size(); ++i) {
      add(shard.where(), [this, &shard, i, &corruption] { check_tensor(shard, i, corruption); });
    }
  }
  for (size_t i = 0; i < manifest_.data_files.size(); ++i) {
    add((path() / store_data_file(i)).string(),
        [this, i, &corruption] { check_between_tiles(i, corruption); });
  }
  for (const StoreOtherFile& file : manifest_.other_files) {
    add((files_root() / file.path).string(),
        [this, &file, &corruption] { check_other_file(file, corruption); });
  }
  parallel_tasks(threads, static_cast<int64_t>(tasks.size()),
                 [&](int64_t i) { tasks[static_cast<size_t>(i)](); });
  return corruption.take();
}

void BaseStore::verify(int threads) const {
  const std::vector<Corruption> corruption = find_corruption(threads);
  if (!corruption.empty()) fail(corruption[0].code, "{}", corruption[0].text());
}

}  // namespace sutor
