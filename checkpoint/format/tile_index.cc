// Encoding: little endian, no padding but what is written here (checkpoint/FORMAT.md).
//   "SUTORIDX", u32 version, u32 tensors, u64 tiles;
//   a tensor: u16 name length, u8 dtype, u8 axes, name, i64 sizes;
//   a tile:   u32 tensor, u32 kind, i64 row_begin, i64 row_count, i64 col_begin, i64 col_count,
//             i64 offset, u64 xxh3 high, u64 low, u32 crc32c a block.
// In version 1 there are no columns: all tiles are of whole rows.
#include "checkpoint/format/tile_index.h"

#include <algorithm>
#include <utility>

#include "checkpoint/format/index_encoding.h"
#include "csrc/base/error.h"

namespace sutor {
namespace {

constexpr std::string_view kMagic = "SUTORIDX";
constexpr uint32_t kVersion = 2;
constexpr uint32_t kWholeRowsVersion = 1;
constexpr size_t kMaxAxes = 8;

// The numbers stand in index files: never change them.
constexpr std::pair<DType, uint8_t> kDTypeCodes[] = {
    {DType::kF64, 1}, {DType::kF32, 2}, {DType::kF16, 3}, {DType::kBF16, 4}};

uint8_t code_of(DType dtype) {
  for (const auto& [known, code] : kDTypeCodes) {
    if (known == dtype) return code;
  }
  fail(ErrorCode::kBrokenInvariant, "internal error: checkpoints hold floats, not {}",
       name_of(dtype));
}

IndexedTensor take_tensor(IndexCursor& cursor) {
  IndexedTensor tensor;
  const auto length = cursor.take<uint16_t>();
  const auto code = cursor.take<uint8_t>();
  const auto axes = cursor.take<uint8_t>();
  tensor.name = cursor.take(length);
  const auto known = std::find_if(std::begin(kDTypeCodes), std::end(kDTypeCodes),
                                  [&](const auto& entry) { return entry.second == code; });
  if (known == std::end(kDTypeCodes)) {
    cursor.fail_index(fmt::format("tensor {} has the unknown dtype code {}", tensor.name, code));
  }
  tensor.dtype = known->first;
  if (axes < 1 || axes > kMaxAxes) {
    cursor.fail_index(fmt::format("tensor {} has {} axes", tensor.name, axes));
  }
  auto bytes = static_cast<int64_t>(size_of(tensor.dtype));
  for (int axis = 0; axis < axes; ++axis) {
    tensor.shape.push_back(cursor.take<int64_t>());
    if (tensor.shape.back() < 0 || __builtin_mul_overflow(bytes, tensor.shape.back(), &bytes)) {
      cursor.fail_index(fmt::format("tensor {} has an impossible shape", tensor.name));
    }
  }
  return tensor;
}

// The part [begin, begin + count) of `extent`, and not an empty one unless there is no other.
bool is_part(int64_t begin, int64_t count, int64_t extent) {
  return begin >= 0 && count >= std::min<int64_t>(1, extent) && count <= extent &&
         begin <= extent - count;
}

Tile take_tile(IndexCursor& cursor, uint32_t version, const std::vector<IndexedTensor>& tensors,
               int64_t file_bytes) {
  Tile tile;
  tile.tensor = cursor.take<uint32_t>();
  const auto kind = cursor.take<uint32_t>();
  tile.row_begin = cursor.take<int64_t>();
  tile.row_count = cursor.take<int64_t>();
  if (version != kWholeRowsVersion) {
    tile.col_begin = cursor.take<int64_t>();
    tile.col_count = cursor.take<int64_t>();
  }
  tile.offset = cursor.take<int64_t>();
  tile.digest.high = cursor.take<uint64_t>();
  tile.digest.low = cursor.take<uint64_t>();
  if (tile.tensor >= tensors.size()) cursor.fail_index("a tile names a tensor that is not listed");
  const IndexedTensor& tensor = tensors[tile.tensor];
  if (kind >= std::size(kAllKinds)) {
    cursor.fail_index(fmt::format("a tile of {} has the unknown kind {}", tensor.name, kind));
  }
  tile.kind = static_cast<TensorKind>(kind);
  if (version == kWholeRowsVersion) tile.col_count = tensor.row_elements();
  if (tile.row_count < 1 || !is_part(tile.row_begin, tile.row_count, tensor.rows())) {
    cursor.fail_index(
        fmt::format("a tile of {} has rows that the tensor does not have", tensor.name));
  }
  if (!is_part(tile.col_begin, tile.col_count, tensor.row_elements())) {
    cursor.fail_index(
        fmt::format("a tile of {} has columns that the tensor does not have", tensor.name));
  }
  // No overflow: the whole tensor's bytes were found to fit.
  const int64_t bytes =
      tile.row_count * tile.col_count * static_cast<int64_t>(size_of(tensor.dtype));
  if (tile.offset < 0 || bytes > file_bytes || tile.offset > file_bytes - bytes) {
    cursor.fail_index(fmt::format("a tile of {} lies beyond the end of its file", tensor.name));
  }
  tile.block_crcs = cursor.take_list<uint32_t>(num_blocks(bytes));
  return tile;
}

}  // namespace

std::string_view name_of(TensorKind kind) {
  switch (kind) {
    case TensorKind::kMaster:
      return "master";
    case TensorKind::kExpAvg:
      return "exp_avg";
    case TensorKind::kExpAvgSq:
      return "exp_avg_sq";
  }
  SUTOR_ASSERT(false);
}

int64_t IndexedTensor::row_elements() const {
  int64_t elements = 1;
  for (size_t axis = 1; axis < shape.size(); ++axis) elements *= shape[axis];
  return elements;
}

ByteRanges TileIndex::ranges() const {
  ByteRanges ranges;
  for (const Tile& tile : tiles) ranges.emplace_back(tile.offset, tile.offset + bytes_of(tile));
  return ranges;
}

std::string dataset_path(const IndexedTensor& tensor, const Tile& tile) {
  const std::string rows =
      fmt::format("/{}/{}/{}", tensor.name, name_of(tile.kind), tile.row_begin);
  return tile.col_count == tensor.row_elements() ? rows
                                                 : fmt::format("{},{}", rows, tile.col_begin);
}

std::string extent_text(const IndexedTensor& tensor, int64_t row_begin, int64_t row_end,
                        int64_t col_begin, int64_t col_end) {
  const std::string rows = fmt::format("rows {} to {}", row_begin, row_end - 1);
  if (col_begin == 0 && col_end == tensor.row_elements()) return rows;
  return fmt::format("{}, columns {} to {}", rows, col_begin, col_end - 1);
}

std::string encode_index(const TileIndex& index) {
  std::string bytes(kMagic);
  put(bytes, kVersion);
  put(bytes, static_cast<uint32_t>(index.tensors.size()));
  put(bytes, static_cast<uint64_t>(index.tiles.size()));
  for (const IndexedTensor& tensor : index.tensors) {
    SUTOR_ASSERT(tensor.name.size() < 65536 && !tensor.shape.empty());
    SUTOR_ASSERT(tensor.shape.size() <= kMaxAxes);
    put(bytes, static_cast<uint16_t>(tensor.name.size()));
    put(bytes, code_of(tensor.dtype));
    put(bytes, static_cast<uint8_t>(tensor.shape.size()));
    bytes += tensor.name;
    for (const int64_t size : tensor.shape) put(bytes, size);
  }
  for (const Tile& tile : index.tiles) {
    put(bytes, tile.tensor);
    put(bytes, static_cast<uint32_t>(tile.kind));
    put(bytes, tile.row_begin);
    put(bytes, tile.row_count);
    put(bytes, tile.col_begin);
    put(bytes, tile.col_count);
    put(bytes, tile.offset);
    put(bytes, tile.digest.high);
    put(bytes, tile.digest.low);
    for (const uint32_t crc : tile.block_crcs) put(bytes, crc);
  }
  return bytes;
}

TileIndex decode_index(std::string_view bytes, int64_t file_bytes, const std::string& where) {
  IndexCursor cursor(bytes, where);
  if (cursor.take(kMagic.size()) != kMagic) cursor.fail_index("it does not begin with SUTORIDX");
  const auto version = cursor.take<uint32_t>();
  if (version < kWholeRowsVersion || version > kVersion) {
    cursor.fail_index(fmt::format("it has version {}, this program reads {} to {}", version,
                                  kWholeRowsVersion, kVersion));
  }
  const auto tensors = cursor.take<uint32_t>();
  const auto tiles = cursor.take<uint64_t>();
  TileIndex index;
  for (uint32_t i = 0; i < tensors; ++i) index.tensors.push_back(take_tensor(cursor));
  for (uint64_t i = 0; i < tiles; ++i) {
    index.tiles.push_back(take_tile(cursor, version, index.tensors, file_bytes));
  }
  if (cursor.left() != 0) cursor.fail_index(fmt::format("{} bytes follow its end", cursor.left()));
  return index;
}

}  // namespace sutor
