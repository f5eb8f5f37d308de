#include "checkpoint/format/tile_coverage.h"

#include <algorithm>
#include <map>

#include "csrc/base/error.h"

namespace sutor {
namespace {

// A line of one row's height goes down the tensor. The tiles that it crosses must lie beside each
// other, without gap, over all columns; that can change only where tiles begin or end.
class CoverageSweep {
 public:
  CoverageSweep(const IndexedTensor& tensor, TensorKind kind, const std::string& where)
      : tensor_(tensor), kind_(kind), where_(where) {}

  void begin(const Tile& tile) {
    const auto right = crossed_.lower_bound(tile.col_begin);
    if (right != crossed_.end() && right->second->col_begin < tile.col_end()) {
      fail_double(tile, *right->second);
    }
    if (right != crossed_.begin() && std::prev(right)->second->col_end() > tile.col_begin) {
      fail_double(tile, *std::prev(right)->second);
    }
    crossed_.emplace_hint(right, tile.col_begin, &tile);
    columns_ += tile.col_count;
  }

  void end(const Tile& tile) {
    crossed_.erase(tile.col_begin);
    columns_ -= tile.col_count;
  }

  // Nothing begins or ends between the two rows.
  void check_rows(int64_t row_begin, int64_t row_end) const {
    if (columns_ == tensor_.row_elements()) return;  // they do not overlap
    int64_t covered = 0;
    int64_t gap_end = tensor_.row_elements();
    for (const auto& [col_begin, tile] : crossed_) {
      if (col_begin > covered) {
        gap_end = col_begin;
        break;
      }
      covered = tile->col_end();
    }
    fail_at(row_begin, row_end, covered, gap_end, "in no writer's file");
  }

 private:
  [[noreturn]] void fail_double(const Tile& a, const Tile& b) const {
    fail_at(std::max(a.row_begin, b.row_begin), std::min(a.row_end(), b.row_end()),
            std::max(a.col_begin, b.col_begin), std::min(a.col_end(), b.col_end()),
            "more than once");
  }
  [[noreturn]] void fail_at(int64_t row_begin, int64_t row_end, int64_t col_begin, int64_t col_end,
                            const char* how) const {
    fail(ErrorCode::kBadCoverage, "{}: {} of {} ({}) are there {}", where_,
         extent_text(tensor_, row_begin, row_end, col_begin, col_end), tensor_.name, name_of(kind_),
         how);
  }

  const IndexedTensor& tensor_;
  TensorKind kind_;
  const std::string& where_;
  std::map<int64_t, const Tile*> crossed_;  // by first column
  int64_t columns_ = 0;                     // of all crossed tiles
};

}  // namespace

void check_covered(const IndexedTensor& tensor, TensorKind kind,
                   const std::vector<const Tile*>& tiles, const std::string& where) {
  std::vector<const Tile*> begins = tiles, ends = tiles;
  std::sort(begins.begin(), begins.end(),
            [](const Tile* a, const Tile* b) { return a->row_begin < b->row_begin; });
  std::sort(ends.begin(), ends.end(),
            [](const Tile* a, const Tile* b) { return a->row_end() < b->row_end(); });
  CoverageSweep sweep(tensor, kind, where);
  size_t begun = 0, ended = 0;
  for (int64_t row = 0; row < tensor.rows();) {
    while (ended < ends.size() && ends[ended]->row_end() <= row) sweep.end(*ends[ended++]);
    while (begun < begins.size() && begins[begun]->row_begin <= row) sweep.begin(*begins[begun++]);
    int64_t next = tensor.rows();
    if (begun < begins.size()) next = std::min(next, begins[begun]->row_begin);
    if (ended < ends.size()) next = std::min(next, ends[ended]->row_end());
    sweep.check_rows(row, next);
    row = next;
  }
}

}  // namespace sutor
