// The index of one writer's file: which rows of which tensors are at which bytes, with checksums.
// A tile is a rectangle of one tensor and kind: consecutive rows, whole or the same columns of
// each, at most 16 MiB (or one row), stored row after row as one contiguous dataset.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/format/tile_bytes.h"
#include "csrc/base/dtype.h"
#include "csrc/base/hash.h"
#include "parallel_state/model/optimizer_state.h"

namespace sutor {

// What the tiles are of in files that do not say so: adamw's master, exp_avg and exp_avg_sq in F32.
const OptimizerState& first_optimizer_state();
// A dtype that state can have, by its name; nothing for another text.
std::optional<DType> state_dtype(std::string_view name);

struct IndexedTensor {
  std::string name;            // global HF name
  std::vector<int64_t> shape;  // of the whole tensor; at least one axis

  int64_t rows() const { return shape[0]; }
  int64_t row_elements() const;
  int64_t row_bytes(DType dtype) const {
    return row_elements() * static_cast<int64_t>(size_of(dtype));
  }
  bool operator==(const IndexedTensor&) const = default;
};

struct Tile {
  uint32_t tensor = 0;  // in TileIndex::tensors
  uint32_t kind = 0;    // in TileIndex::kinds
  int64_t row_begin = 0;
  int64_t row_count = 0;
  int64_t col_begin = 0;  // of the flattened other axes
  int64_t col_count = 0;
  int64_t offset = 0;  // of its first byte in the file
  Digest digest;
  std::vector<uint32_t> block_crcs;  // one per kBlockBytes; the last one may cover less

  int64_t row_end() const { return row_begin + row_count; }
  int64_t col_end() const { return col_begin + col_count; }
};

struct TileIndex {
  std::vector<StateKind> kinds;  // what is stored of every tensor
  std::vector<IndexedTensor> tensors;
  std::vector<Tile> tiles;

  int64_t bytes_of(const Tile& tile) const {
    return tile.row_count * tile.col_count * static_cast<int64_t>(size_of(kinds[tile.kind].dtype));
  }
  ByteRanges ranges() const;  // of all tiles in the file
};

// "/model.layers.1.mlp.experts.7.up_proj.weight/exp_avg/1024"; with the first column behind the row
// when the tile does not hold whole rows: ".../exp_avg/1024,512".
std::string dataset_path(const IndexedTensor& tensor, std::string_view kind, const Tile& tile);

// For messages: "rows 0 to 11", or "rows 0 to 11, columns 8 to 15" when those are not all.
std::string extent_text(const IndexedTensor& tensor, int64_t row_begin, int64_t row_end,
                        int64_t col_begin, int64_t col_end);

// In the lowest version that can say it.
std::string encode_index(const TileIndex& index);
// Of any version. Checks every number before it is used: tiles lie inside their tensors and inside
// a file of `file_bytes`. Throws E0345 naming `where` (the index file).
TileIndex decode_index(std::string_view bytes, int64_t file_bytes, const std::string& where);

}  // namespace sutor
