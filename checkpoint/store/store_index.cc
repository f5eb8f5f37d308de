// Encoding: little endian, no padding but what is written here (checkpoint/FORMAT.md).
//   "SUTORSTX", u32 version, u32 tensors, u64 tiles, i64 bytes of the data file, u64 xxh3 high and
//   u64 low of its bytes outside tiles;
//   a tensor: u16 length of the name, u8 length of the dtype, u8 axes, u32 block bytes, u32 1 when
//             the digest counts, name, dtype, i64 sizes, i64 bytes, u64 xxh3 high, u64 low;
//   a tile:   u32 tensor, i64 first byte, i64 bytes, i64 offset, u32 crc32c a block;
//   u64 xxh3 high, u64 low of all bytes before.
#include "checkpoint/store/store_index.h"

#include <algorithm>

#include "checkpoint/format/index_encoding.h"
#include "csrc/base/format_versions.h"

namespace sutor {
namespace {

constexpr std::string_view kMagic = "SUTORSTX";
constexpr size_t kDigestBytes = 16;

void put_digest(std::string& bytes, const Digest& digest) {
  put(bytes, digest.high);
  put(bytes, digest.low);
}

Digest take_digest(IndexCursor& cursor) {
  Digest digest;
  digest.high = cursor.take<uint64_t>();
  digest.low = cursor.take<uint64_t>();
  return digest;
}

StoreTensor take_tensor(IndexCursor& cursor) {
  StoreTensor tensor;
  const auto name_length = cursor.take<uint16_t>();
  const auto dtype_length = cursor.take<uint8_t>();
  const auto axes = cursor.take<uint8_t>();
  tensor.block_bytes = cursor.take<uint32_t>();
  const auto has_digest = cursor.take<uint32_t>();
  tensor.name = cursor.take(name_length);
  tensor.dtype = cursor.take(dtype_length);
  tensor.shape = cursor.take_list<int64_t>(axes);
  tensor.bytes = cursor.take<int64_t>();
  const Digest digest = take_digest(cursor);
  if (has_digest == 1) tensor.digest = digest;
  if (tensor.bytes < 0 || tensor.block_bytes < 1 || tensor.block_bytes > kBlockBytes ||
      has_digest > 1) {
    cursor.fail_index(fmt::format("tensor `{}` has impossible sizes", tensor.name));
  }
  return tensor;
}

StoreTile take_tile(IndexCursor& cursor, const StoreIndex& index) {
  StoreTile tile;
  tile.tensor = cursor.take<uint32_t>();
  tile.begin = cursor.take<int64_t>();
  tile.bytes = cursor.take<int64_t>();
  tile.offset = cursor.take<int64_t>();
  if (tile.tensor >= index.tensors.size()) {
    cursor.fail_index("a tile names a tensor that is not listed");
  }
  const StoreTensor& tensor = index.tensors[tile.tensor];
  if (tile.begin < 0 || tile.bytes < 1 || tile.bytes > tensor.bytes ||
      tile.begin > tensor.bytes - tile.bytes) {
    cursor.fail_index(
        fmt::format("a tile of `{}` has bytes that the tensor does not have", tensor.name));
  }
  if (tile.offset < 0 || tile.bytes > index.file_bytes ||
      tile.offset > index.file_bytes - tile.bytes) {
    cursor.fail_index(fmt::format("a tile of `{}` lies beyond the end of its file", tensor.name));
  }
  tile.crcs = cursor.take_list<uint32_t>(num_blocks(tile.bytes, tensor.block_bytes));
  return tile;
}

void check_apart(const StoreIndex& index, const IndexCursor& cursor) {
  ByteRanges ranges = index.ranges();
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i - 1].second > ranges[i].first) {
      cursor.fail_index(fmt::format("two tiles share byte {} of the file", ranges[i].first));
    }
  }
}

}  // namespace

ByteRanges StoreIndex::ranges() const {
  ByteRanges ranges;
  for (const StoreTile& tile : tiles) ranges.emplace_back(tile.offset, tile.offset + tile.bytes);
  return ranges;
}

std::string encode_store_index(const StoreIndex& index) {
  std::string bytes(kMagic);
  put(bytes, kStoreIndexVersion);
  put(bytes, static_cast<uint32_t>(index.tensors.size()));
  put(bytes, static_cast<uint64_t>(index.tiles.size()));
  put(bytes, index.file_bytes);
  put_digest(bytes, index.metadata_digest);
  for (const StoreTensor& tensor : index.tensors) {
    put(bytes, static_cast<uint16_t>(tensor.name.size()));
    put(bytes, static_cast<uint8_t>(tensor.dtype.size()));
    put(bytes, static_cast<uint8_t>(tensor.shape.size()));
    put(bytes, static_cast<uint32_t>(tensor.block_bytes));
    put(bytes, static_cast<uint32_t>(tensor.digest.has_value()));
    bytes += tensor.name;
    bytes += tensor.dtype;
    for (const int64_t size : tensor.shape) put(bytes, size);
    put(bytes, tensor.bytes);
    put_digest(bytes, tensor.digest.value_or(Digest()));
  }
  for (const StoreTile& tile : index.tiles) {
    put(bytes, tile.tensor);
    put(bytes, tile.begin);
    put(bytes, tile.bytes);
    put(bytes, tile.offset);
    for (const uint32_t crc : tile.crcs) put(bytes, crc);
  }
  put_digest(bytes, xxh3(bytes));
  return bytes;
}

StoreIndex decode_store_index(std::string_view bytes, const std::string& where) {
  IndexCursor cursor(bytes, where);
  if (cursor.take(kMagic.size()) != kMagic) cursor.fail_index("it does not begin with SUTORSTX");
  if (const auto version = cursor.take<uint32_t>(); version != kStoreIndexVersion) {
    cursor.fail_index(
        fmt::format("it has version {}, this program reads {}", version, kStoreIndexVersion));
  }
  if (bytes.size() < kMagic.size() + kDigestBytes) cursor.fail_index("it ends early");
  IndexCursor end(bytes.substr(bytes.size() - kDigestBytes), where);
  if (take_digest(end) != xxh3(bytes.substr(0, bytes.size() - kDigestBytes))) {
    cursor.fail_index("its last bytes are not the digest of the others");
  }
  const auto tensors = cursor.take<uint32_t>();
  const auto tiles = cursor.take<uint64_t>();
  StoreIndex index;
  index.file_bytes = cursor.take<int64_t>();
  index.metadata_digest = take_digest(cursor);
  for (uint32_t i = 0; i < tensors; ++i) index.tensors.push_back(take_tensor(cursor));
  for (uint64_t i = 0; i < tiles; ++i) index.tiles.push_back(take_tile(cursor, index));
  if (cursor.left() != kDigestBytes) {
    cursor.fail_index(fmt::format("{} bytes follow its last tile", cursor.left()));
  }
  check_apart(index, cursor);
  return index;
}

}  // namespace sutor
