// The index of a writer's file of a checkpoint. Its digest is in the manifest.
#include "checkpoint/format/tile_index.h"

#include "tests/fuzz/targets.h"

namespace sutor::fuzz {
namespace {

constexpr int64_t kFileBytes = int64_t{1} << 20;

void read(const std::string& bytes) {
  const TileIndex index = decode_index(bytes, kFileBytes, "w0000.idx");
  index.ranges();
  for (const Tile& tile : index.tiles) {
    dataset_path(index.tensors[tile.tensor], index.kinds[tile.kind].name, tile);
  }
}

// Of the first version when `kinds` are adamw's, else of the next.
std::string index_of(std::vector<StateKind> kinds) {
  TileIndex index{.kinds = std::move(kinds)};
  index.tensors = {{"model.layers.1.mlp.experts.7.up_proj.weight", {8, 4}},
                   {"model.norm.weight", {16}}};
  for (uint32_t kind = 0; kind < index.kinds.size(); ++kind) {
    for (uint32_t tensor = 0; tensor < index.tensors.size(); ++tensor) {
      Tile tile{.tensor = tensor, .kind = kind};
      tile.row_count = index.tensors[tensor].rows();
      tile.col_count = index.tensors[tensor].row_elements();
      tile.offset = 4096 * (1 + tensor + 2 * kind);
      tile.digest = xxh3("tile");
      tile.block_crcs = {7};
      index.tiles.push_back(tile);
    }
  }
  return encode_index(index);
}

std::vector<std::string> seeds() {
  return {index_of(first_optimizer_state().kinds),
          index_of({{"weight", DType::kBF16}, {"exp_avg", DType::kBF16}})};
}

}  // namespace

const FuzzTarget kTileIndex{"tile_index", read, seeds};

}  // namespace sutor::fuzz
