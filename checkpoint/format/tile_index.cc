// Encoding: little endian, no padding but what is written here (checkpoint/FORMAT.md).
//   "SUTORIDX", u32 version, u32 tensors, u64 tiles, u32 kinds;
//   a kind:   u8 dtype, u8 name length, name;
//   a tensor: u16 name length, u8 axes, name, i64 sizes;
//   a tile:   u32 tensor, u32 kind, i64 row_begin, i64 row_count, i64 col_begin, i64 col_count,
//             i64 offset, u64 xxh3 high, u64 low, u32 crc32c a block.
// Version 2 has no kinds, which are those of first_optimizer_state(), and a u8 dtype (F32) before a
// tensor's axes. In version 1 moreover there are no columns: all tiles are of whole rows.
#include "checkpoint/format/tile_index.h"

#include <algorithm>
#include <utility>

#include "checkpoint/format/index_encoding.h"
#include "csrc/base/error.h"

namespace sutor {
namespace {

constexpr std::string_view kMagic = "SUTORIDX";
constexpr uint32_t kVersion = 3;
constexpr uint32_t kFirstKindsVersion = 2;
constexpr uint32_t kWholeRowsVersion = 1;
constexpr size_t kMaxAxes = 8;
constexpr size_t kMaxKinds = 64;

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

DType take_dtype(IndexCursor& cursor) {
  const auto code = cursor.take<uint8_t>();
  for (const auto& [dtype, known] : kDTypeCodes) {
    if (known == code) return dtype;
  }
  cursor.fail_index(fmt::format("it has the unknown dtype code {}", code));
}

std::vector<StateKind> take_kinds(IndexCursor& cursor, uint32_t version) {
  if (version <= kFirstKindsVersion) return first_optimizer_state().kinds;
  std::vector<StateKind> kinds;
  const auto count = cursor.take<uint32_t>();
  if (count < 1 || count > kMaxKinds) cursor.fail_index(fmt::format("it has {} kinds", count));
  for (uint32_t i = 0; i < count; ++i) {
    const DType dtype = take_dtype(cursor);
    const auto length = cursor.take<uint8_t>();
    kinds.push_back({std::string(cursor.take(length)), dtype});
  }
  return kinds;
}

IndexedTensor take_tensor(IndexCursor& cursor, uint32_t version) {
  IndexedTensor tensor;
  const auto length = cursor.take<uint16_t>();
  if (version <= kFirstKindsVersion && take_dtype(cursor) != DType::kF32) {
    cursor.fail_index(fmt::format("version {} holds F32 alone", version));
  }
  const auto axes = cursor.take<uint8_t>();
  tensor.name = cursor.take(length);
  if (axes < 1 || axes > kMaxAxes) {
    cursor.fail_index(fmt::format("tensor {} has {} axes", tensor.name, axes));
  }
  auto bytes = static_cast<int64_t>(size_of(DType::kF64));  // the largest that state can have
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

Tile take_tile(IndexCursor& cursor, uint32_t version, const TileIndex& index, int64_t file_bytes) {
  Tile tile;
  tile.tensor = cursor.take<uint32_t>();
  tile.kind = cursor.take<uint32_t>();
  tile.row_begin = cursor.take<int64_t>();
  tile.row_count = cursor.take<int64_t>();
  if (version != kWholeRowsVersion) {
    tile.col_begin = cursor.take<int64_t>();
    tile.col_count = cursor.take<int64_t>();
  }
  tile.offset = cursor.take<int64_t>();
  tile.digest.high = cursor.take<uint64_t>();
  tile.digest.low = cursor.take<uint64_t>();
  if (tile.tensor >= index.tensors.size()) {
    cursor.fail_index("a tile names a tensor that is not listed");
  }
  const IndexedTensor& tensor = index.tensors[tile.tensor];
  if (tile.kind >= index.kinds.size()) {
    cursor.fail_index(fmt::format("a tile of {} has the unknown kind {}", tensor.name, tile.kind));
  }
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
  const int64_t bytes = index.bytes_of(tile);
  if (tile.offset < 0 || bytes > file_bytes || tile.offset > file_bytes - bytes) {
    cursor.fail_index(fmt::format("a tile of {} lies beyond the end of its file", tensor.name));
  }
  tile.block_crcs = cursor.take_list<uint32_t>(num_blocks(bytes));
  return tile;
}

void put_kinds(std::string& bytes, const std::vector<StateKind>& kinds) {
  SUTOR_ASSERT(!kinds.empty() && kinds.size() <= kMaxKinds);
  put(bytes, static_cast<uint32_t>(kinds.size()));
  for (const StateKind& kind : kinds) {
    SUTOR_ASSERT(kind.name.size() < 256);
    put(bytes, code_of(kind.dtype));
    put(bytes, static_cast<uint8_t>(kind.name.size()));
    bytes += kind.name;
  }
}

}  // namespace

const OptimizerState& first_optimizer_state() {
  static const OptimizerState state{
      .optimizer = "adamw",
      .kinds = {{"master", DType::kF32}, {"exp_avg", DType::kF32}, {"exp_avg_sq", DType::kF32}},
      .values = "master"};
  return state;
}

std::optional<DType> state_dtype(std::string_view name) {
  for (const auto& [dtype, code] : kDTypeCodes) {
    if (name_of(dtype) == name) return dtype;
  }
  return std::nullopt;
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

std::string dataset_path(const IndexedTensor& tensor, std::string_view kind, const Tile& tile) {
  const std::string rows = fmt::format("/{}/{}/{}", tensor.name, kind, tile.row_begin);
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
  const bool first_kinds = index.kinds == first_optimizer_state().kinds;
  std::string bytes(kMagic);
  put(bytes, first_kinds ? kFirstKindsVersion : kVersion);
  put(bytes, static_cast<uint32_t>(index.tensors.size()));
  put(bytes, static_cast<uint64_t>(index.tiles.size()));
  if (!first_kinds) put_kinds(bytes, index.kinds);
  for (const IndexedTensor& tensor : index.tensors) {
    SUTOR_ASSERT(tensor.name.size() < 65536 && !tensor.shape.empty());
    SUTOR_ASSERT(tensor.shape.size() <= kMaxAxes);
    put(bytes, static_cast<uint16_t>(tensor.name.size()));
    if (first_kinds) put(bytes, code_of(DType::kF32));
    put(bytes, static_cast<uint8_t>(tensor.shape.size()));
    bytes += tensor.name;
    for (const int64_t size : tensor.shape) put(bytes, size);
  }
  for (const Tile& tile : index.tiles) {
    put(bytes, tile.tensor);
    put(bytes, tile.kind);
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
  TileIndex index{.kinds = take_kinds(cursor, version)};
  for (uint32_t i = 0; i < tensors; ++i) index.tensors.push_back(take_tensor(cursor, version));
  for (uint64_t i = 0; i < tiles; ++i) {
    index.tiles.push_back(take_tile(cursor, version, index, file_bytes));
  }
  if (cursor.left() != 0) cursor.fail_index(fmt::format("{} bytes follow its end", cursor.left()));
  return index;
}

}  // namespace sutor
