#include "checkpoint/store_plan.h"

#include <algorithm>

#include "checkpoint/tile_bytes.h"
#include "csrc/base/error.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

// What HDF5 needs beside the data, rounded up: measured are 0.6 KiB a dataset and its group.
constexpr int64_t kFileOverhead = 16 << 10;
constexpr int64_t kTensorOverhead = 1536;
constexpr int64_t kTileOverhead = 768;
constexpr int64_t kAlignedFrom = int64_t{1} << 20;  // datasets of this size begin at a page
constexpr int64_t kPageBytes = 4096;
// The library keeps the description of a file in memory until the file is complete.
constexpr int64_t kMaxFileTiles = 16384;

int64_t tensor_overhead(const StorePart& part) {
  return kTensorOverhead + 4 * static_cast<int64_t>(part.tensor.entry->name.size());
}

int64_t tile_overhead(int64_t bytes) {
  return kTileOverhead + (bytes >= kAlignedFrom ? kPageBytes : 0);
}

// Fills one file after the other.
class Filler {
 public:
  explicit Filler(StorePlan& plan) : plan_(plan) {}

  void add(StorePart part) {
    const int64_t tile_rows = part.layout.tile_rows(plan_.tile_bytes);
    const int64_t tiles =
        std::max<int64_t>(1, (part.row_end - part.row_begin + tile_rows - 1) / tile_rows);
    const int64_t tile = tile_overhead(tile_rows * part.layout.row_bytes);
    const int64_t whole = tensor_overhead(part) + part.bytes() + tiles * tile;
    if (!fits(whole, tiles) && !plan_.files.empty() && !plan_.files.back().parts.empty()) {
      open();
    }
    if (plan_.files.empty()) open();
    if (fits(whole, tiles)) return put(std::move(part), whole, tiles);
    divide(part, tile_rows, tile);
  }

 private:
  bool fits(int64_t bytes, int64_t tiles) const {
    return !plan_.files.empty() && plan_.files.back().bytes + bytes <= plan_.max_file_bytes &&
           tiles_ + tiles <= kMaxFileTiles;
  }

  void open() {
    plan_.files.push_back({.bytes = kFileOverhead});
    tiles_ = 0;
  }

  void put(StorePart part, int64_t bytes, int64_t tiles) {
    plan_.files.back().parts.push_back(std::move(part));
    plan_.files.back().bytes += bytes;
    tiles_ += tiles;
  }

  // As many tiles as a file takes, and on to the next one.
  void divide(const StorePart& part, int64_t tile_rows, int64_t tile) {
    const int64_t tile_bytes = tile_rows * part.layout.row_bytes + tile;
    const int64_t room = plan_.max_file_bytes - kFileOverhead - tensor_overhead(part);
    const int64_t a_file = std::clamp<int64_t>(room / tile_bytes, 1, kMaxFileTiles);
    for (int64_t row = part.row_begin; row < part.row_end;) {
      if (!plan_.files.back().parts.empty()) open();
      StorePart piece = part;
      piece.row_begin = row;
      piece.row_end = std::min(part.row_end, row + a_file * tile_rows);
      row = piece.row_end;
      const int64_t tiles = (piece.row_end - piece.row_begin + tile_rows - 1) / tile_rows;
      const int64_t bytes = tensor_overhead(part) + piece.bytes() + tiles * tile;
      put(std::move(piece), bytes, tiles);
    }
  }

  StorePlan& plan_;
  int64_t tiles_ = 0;  // of the last file
};

bool is_utf8(const std::string& text) {
  try {
    nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

}  // namespace

int64_t StorePlan::total_bytes() const {
  int64_t total = 0;
  for (const StoreFilePlan& file : files) total += file.bytes;
  return total;
}

StorePlan plan_store(const ModelDirectory& model, int64_t max_file_bytes) {
  SUTOR_ASSERT(max_file_bytes >= kLeastStoreFileBytes);
  StorePlan plan;
  plan.max_file_bytes = max_file_bytes;
  plan.tile_bytes = std::min(kTileBytes, max_file_bytes / 4);
  Filler filler(plan);
  for (size_t i = 0; i < model.shards().size(); ++i) {
    const ModelShard& shard = *model.shards()[i];
    for (const SafetensorsEntry& entry : shard.tensors()) {
      StorePart part{.tensor = {i, &shard, &entry}, .layout = store_layout(entry)};
      part.row_end = part.layout.rows;
      filler.add(std::move(part));
    }
  }
  for (const fs::path& file : model.other_files()) {
    const std::string name = file.generic_string();
    if (!is_utf8(name)) {
      fail(311, "{}: the file name `{}` is no UTF-8; rename or remove it", model.path().string(),
           nlohmann::json(name).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
    }
    plan.other_files.push_back(name);
  }
  std::sort(plan.other_files.begin(), plan.other_files.end());
  return plan;
}

}  // namespace sutor
