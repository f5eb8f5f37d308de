#include "checkpoint/store/store_plan.h"

#include <algorithm>

#include "checkpoint/format/tile_bytes.h"
#include "csrc/base/error.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

// What HDF5 needs beside the data, rounded up: 0.6 KiB were measured per dataset and its group.
constexpr int64_t kFileOverhead = 16 << 10;
constexpr int64_t kTensorOverhead = 1536;
constexpr int64_t kTileOverhead = 768;
constexpr int64_t kAlignedFrom = int64_t{1} << 20;  // datasets of this size begin at a page
constexpr int64_t kPageBytes = 4096;
// The library keeps the description of a file in memory until the file is complete.
constexpr int64_t kMaxFileTiles = 16384;

int64_t tensor_overhead(const StoreSlice& slice) {
  return kTensorOverhead + 4 * static_cast<int64_t>(slice.tensor.entry->name.size());
}

int64_t tile_overhead(int64_t bytes) {
  return kTileOverhead + (bytes >= kAlignedFrom ? kPageBytes : 0);
}

struct SliceSize {
  int64_t tile_rows = 1;
  int64_t tiles = 1;
  int64_t tile_overhead = 0;  // of each
  int64_t bytes = 0;          // of the whole slice in a file
};

SliceSize size_of_slice(const StoreSlice& slice, int64_t tile_bytes) {
  SliceSize size;
  size.tile_rows = slice.layout.tile_rows(tile_bytes);
  const int64_t rows = slice.row_end - slice.row_begin;
  size.tiles = std::max<int64_t>(1, (rows + size.tile_rows - 1) / size.tile_rows);
  size.tile_overhead = tile_overhead(size.tile_rows * slice.layout.row_bytes);
  size.bytes = tensor_overhead(slice) + slice.bytes() + size.tiles * size.tile_overhead;
  return size;
}

// Fills one file after the other, as few as possible and all about equally full, so that ranks that
// write one each finish together.
class Filler {
 public:
  Filler(StorePlan& plan, int64_t total_bytes) : plan_(plan) {
    const int64_t room = plan.max_file_bytes - kFileOverhead;
    const int64_t files = std::max<int64_t>(1, (total_bytes + room - 1) / room);
    target_bytes_ = (total_bytes + files - 1) / files;
    open();
  }

  void add(StoreSlice slice) {
    const SliceSize size = size_of_slice(slice, plan_.tile_bytes);
    const bool is_full = done_ >= target_bytes_ * static_cast<int64_t>(plan_.files.size());
    if (!is_empty() && (is_full || !fits(size))) open();
    if (fits(size)) return put(std::move(slice), size);
    divide(slice, size);
  }

 private:
  bool is_empty() const { return plan_.files.back().slices.empty(); }

  bool fits(const SliceSize& size) const {
    return plan_.files.back().bytes + size.bytes <= plan_.max_file_bytes &&
           tiles_ + size.tiles <= kMaxFileTiles;
  }

  void open() {
    plan_.files.push_back({.bytes = kFileOverhead});
    tiles_ = 0;
  }

  void put(StoreSlice slice, const SliceSize& size) {
    plan_.files.back().slices.push_back(std::move(slice));
    plan_.files.back().bytes += size.bytes;
    tiles_ += size.tiles;
    done_ += size.bytes;
  }

  // Puts as many tiles into each file as fit.
  void divide(const StoreSlice& slice, const SliceSize& size) {
    const int64_t tile_bytes = size.tile_rows * slice.layout.row_bytes + size.tile_overhead;
    const int64_t room = plan_.max_file_bytes - kFileOverhead - tensor_overhead(slice);
    const int64_t tiles = std::clamp<int64_t>(room / tile_bytes, 1, kMaxFileTiles);
    StoreSlice next = slice;
    for (int64_t row = slice.row_begin; row < slice.row_end; row = next.row_end) {
      if (!is_empty()) open();
      next.row_begin = row;
      next.row_end = std::min(slice.row_end, row + tiles * size.tile_rows);
      put(next, size_of_slice(next, plan_.tile_bytes));
    }
  }

  StorePlan& plan_;
  int64_t target_bytes_ = 0;  // of a file
  int64_t done_ = 0;
  int64_t tiles_ = 0;  // of the last file
};

bool is_utf8(const std::string& text) {
  try {
    nlohmann::json(text).dump();  // unlike dump_json() it replaces nothing
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
  std::vector<StoreSlice> slices;
  int64_t total_bytes = 0;
  for (size_t i = 0; i < model.shards().size(); ++i) {
    const ModelShard& shard = *model.shards()[i];
    for (const SafetensorsEntry& entry : shard.tensors()) {
      StoreSlice slice{.tensor = {i, &shard, &entry}, .layout = store_layout(entry)};
      slice.row_end = slice.layout.rows;
      total_bytes += size_of_slice(slice, plan.tile_bytes).bytes;
      slices.push_back(std::move(slice));
    }
  }
  Filler filler(plan, total_bytes);
  for (StoreSlice& slice : slices) filler.add(std::move(slice));
  if (plan.files.back().slices.empty()) plan.files.pop_back();
  for (const fs::path& file : model.other_files()) {
    const std::string name = file.generic_string();
    if (!is_utf8(name)) {
      fail(ErrorCode::kNotStorable, "{}: the file name `{}` is not UTF-8; rename or remove it",
           model.path().string(),
           nlohmann::json(name).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
    }
    plan.other_files.push_back(name);
  }
  std::sort(plan.other_files.begin(), plan.other_files.end());
  return plan;
}

}  // namespace sutor
