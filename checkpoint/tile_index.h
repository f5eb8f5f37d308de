// The index of one writer's file: which rows of which tensors lie at which bytes, with checksums.
// A tile is a block of whole rows of one tensor and kind, at most 16 MiB (or one row), stored as
// one contiguous dataset /<tensor>/<kind>/<first row>.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/tile_bytes.h"
#include "csrc/base/dtype.h"
#include "csrc/base/hash.h"

namespace sutor {

// What is stored of a trained tensor. The numbers stand in index files: never change them.
enum class TensorKind : uint8_t { kMaster = 0, kExpAvg = 1, kExpAvgSq = 2 };
inline constexpr TensorKind kAllKinds[] = {TensorKind::kMaster, TensorKind::kExpAvg,
                                           TensorKind::kExpAvgSq};
std::string_view name_of(TensorKind kind);  // master | exp_avg | exp_avg_sq

struct IndexedTensor {
  std::string name;  // global HF name
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // of the whole tensor; at least one axis

  int64_t rows() const { return shape[0]; }
  int64_t row_elements() const;
  int64_t row_bytes() const { return row_elements() * static_cast<int64_t>(size_of(dtype)); }
  bool operator==(const IndexedTensor&) const = default;
};

struct Tile {
  uint32_t tensor = 0;  // in TileIndex::tensors
  TensorKind kind = TensorKind::kMaster;
  int64_t row_begin = 0;
  int64_t row_count = 0;
  int64_t offset = 0;  // of its first byte in the file
  Digest digest;
  std::vector<uint32_t> block_crcs;  // one a kBlockBytes, the last one may cover less

  int64_t row_end() const { return row_begin + row_count; }
};

struct TileIndex {
  std::vector<IndexedTensor> tensors;
  std::vector<Tile> tiles;

  int64_t bytes_of(const Tile& tile) const {
    return tile.row_count * tensors[tile.tensor].row_bytes();
  }
  ByteRanges ranges() const;  // of all tiles in the file
};

// "/model.layers.1.mlp.experts.7.up_proj.weight/exp_avg/1024"
std::string dataset_path(std::string_view tensor, TensorKind kind, int64_t row_begin);

std::string encode_index(const TileIndex& index);
// Checks every number before it is used: tiles lie inside their tensors and inside a file of
// `file_bytes`. Throws E0345 naming `where` (the index file).
TileIndex decode_index(std::string_view bytes, int64_t file_bytes, const std::string& where);

}  // namespace sutor
