#include "checkpoint/store/store_shard.h"

#include <algorithm>

#include "checkpoint/format/checkpoint_paths.h"
#include "csrc/base/error.h"

namespace sutor {
namespace {

constexpr size_t kMaxOpenFiles = 128;

}  // namespace

std::shared_ptr<const InputFile> StoreFiles::open(size_t number) {
  const std::lock_guard lock(mutex_);
  const auto found = open_.find(number);
  if (found != open_.end()) return found->second;
  // Readers of a file that is dropped here keep it open.
  if (open_.size() >= kMaxOpenFiles) open_.erase(open_.begin());
  return open_[number] = std::make_shared<InputFile>(store_ / store_data_file(number));
}

StoreShard::StoreShard(StoreFiles& files, size_t number, const StoreShardRecord& record)
    : files_(files), number_(number), record_(record) {
  const std::string bytes = header_bytes();
  header_ = parse_safetensors_header(std::as_bytes(std::span(bytes)), record.bytes, where());
  if (header_.data_begin != record.header_bytes) {
    fail(ErrorCode::kCorrupted, "{}: its header ends at byte {}, but the manifest says {}", where(),
         header_.data_begin, record.header_bytes);
  }
  tensor_tiles_.resize(header_.tensors.size());
}

std::string StoreShard::where() const {
  return fmt::format("{} ({})", files_.store().string(), record_.name);
}

std::string StoreShard::header_bytes() const {
  const std::filesystem::path path = files_.store() / store_header_file(number_);
  std::string bytes = read_file(path, record_.header_bytes);
  if (xxh3(bytes) != record_.header_digest) {
    fail(ErrorCode::kCorrupted, "{} is corrupt: its digest is not the one in the manifest",
         path.string());
  }
  return bytes;
}

StoreShard::Found StoreShard::find(int64_t offset) const {
  const auto tensor =
      std::upper_bound(header_.tensors.begin(), header_.tensors.end(), offset,
                       [](int64_t at, const SafetensorsEntry& entry) { return at < entry.end; });
  SUTOR_ASSERT(tensor != header_.tensors.end() && offset >= tensor->begin);
  const auto number = static_cast<size_t>(tensor - header_.tensors.begin());
  const std::vector<TileLocation>& tiles = tensor_tiles_[number].tiles;
  const int64_t at = offset - tensor->begin;
  const auto location =
      std::upper_bound(tiles.begin(), tiles.end(), at,
                       [](int64_t begin, const TileLocation& tile) { return begin < tile.end(); });
  SUTOR_ASSERT(location != tiles.end() && at >= location->begin);
  return {number, &*location, at - location->begin};
}

void StoreShard::read_at(int64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const Found found = find(offset);
    const TileLocation& location = *found.location;
    const auto size = std::min(into.size(), static_cast<size_t>(location.bytes - found.begin));
    const TileBytes tile{location.offset, location.bytes, tensor_tiles_[found.tensor].block_bytes,
                         location.crcs};
    const auto file = files_.open(location.file);
    const VerifiedRead result = read_verified(*file, tile, found.begin, into.first(size));
    count(result.fetched);
    if (result.bad_block) {
      const int64_t bad = location.begin + *result.bad_block * tile.block_bytes;
      fail(ErrorCode::kCorrupted,
           "{} is corrupt: the block at byte {} of tensor `{}` (byte {} of the file) is not what "
           "was written",
           file->path().string(), bad, header_.tensors[found.tensor].name,
           location.offset + *result.bad_block * tile.block_bytes);
    }
    into = into.subspan(size);
    offset += static_cast<int64_t>(size);
  }
}

// Reads may end between tiles: blocks are counted from a tile's first byte, so none crosses its
// end.
int64_t StoreShard::last_read_end(int64_t begin, int64_t end) const {
  const Found last = find(end - 1);
  const bool is_tile_end = last.begin + 1 == last.location->bytes;
  return is_tile_end ? end : std::max(begin, end - 1 - last.begin);
}

int64_t StoreShard::chunk_end(int64_t begin) const {
  const Found found = find(begin);
  const int64_t block_bytes = tensor_tiles_[found.tensor].block_bytes;
  // At the end of the last block within reach, at least at the end of this one.
  const int64_t reach =
      std::max(found.begin + kBlockBytes, (found.begin / block_bytes + 1) * block_bytes);
  const int64_t end = std::min(reach / block_bytes * block_bytes, found.location->bytes);
  return begin + (end - found.begin);
}

// A read at each end of a gap fetches whole blocks, so for a shorter gap two reads fetch more.
int64_t StoreShard::worth_skipping() const { return 2 * kBlockBytes; }

}  // namespace sutor
