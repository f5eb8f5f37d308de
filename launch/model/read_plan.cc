#include "launch/model/read_plan.h"

#include <algorithm>

#include "csrc/base/error.h"

namespace sutor {
namespace {

struct Holder {
  int rank = 0;
  size_t piece = 0;
  const HeldPiece* held = nullptr;
};

// Grows `area` to hold these rows of the piece.
void cover(HeldPiece& area, const HeldPiece& piece, int64_t row_begin, int64_t row_end) {
  if (area.row_count == 0) {
    area = piece;
    area.row_begin = row_begin;
    area.row_count = row_end - row_begin;
    return;
  }
  SUTOR_ASSERT(area.element_bytes == piece.element_bytes);
  const int64_t rows = std::max(area.row_begin + area.row_count, row_end);
  const int64_t columns =
      std::max(area.col_begin + area.col_count, piece.col_begin + piece.col_count);
  area.row_begin = std::min(area.row_begin, row_begin);
  area.row_count = rows - area.row_begin;
  area.col_begin = std::min(area.col_begin, piece.col_begin);
  area.col_count = columns - area.col_begin;
}

// What is wanted of rows [begin, end).
PlannedRead read_of(const std::vector<Holder>& holders, int64_t begin, int64_t end) {
  PlannedRead read;
  for (const Holder& holder : holders) {
    const HeldPiece& piece = *holder.held;
    const int64_t first = std::max(begin, piece.row_begin);
    const int64_t last = std::min(end, piece.row_begin + piece.row_count);
    if (first >= last) continue;
    cover(read.area, piece, first, last);
    read.shares.push_back({holder.rank, holder.piece, first, last - first});
  }
  return read;
}

std::vector<std::vector<Holder>> holders_by_tensor(
    const std::vector<std::vector<HeldPiece>>& of_rank) {
  std::vector<std::vector<Holder>> holders;
  for (size_t rank = 0; rank < of_rank.size(); ++rank) {
    for (size_t i = 0; i < of_rank[rank].size(); ++i) {
      const HeldPiece& piece = of_rank[rank][i];
      if (piece.num_bytes() == 0) continue;
      const auto tensor = static_cast<size_t>(piece.tensor);
      if (holders.size() <= tensor) holders.resize(tensor + 1);
      holders[tensor].push_back({static_cast<int>(rank), i, &piece});
    }
  }
  return holders;
}

}  // namespace

ReadPlan plan_reads(const std::vector<std::vector<HeldPiece>>& of_rank, const RowCut& cut,
                    int64_t window_bytes) {
  ReadPlan plan;
  std::vector<PlannedRead> shared;
  std::vector<int64_t> bytes(of_rank.size(), 0);  // to be read by each rank
  const auto add = [&](PlannedRead read) {
    if (read.shares.empty()) return;
    if (read.shares.size() > 1) return shared.push_back(std::move(read));
    read.reader = read.shares[0].rank;
    bytes[static_cast<size_t>(read.reader)] += read.area.num_bytes();
    plan.alone.push_back(std::move(read));
  };
  for (const std::vector<Holder>& holders : holders_by_tensor(of_rank)) {
    int64_t end = 0;
    for (const Holder& holder : holders) {
      end = std::max(end, holder.held->row_begin + holder.held->row_count);
    }
    // From the tensor's first row on: cuts are where its tiles end, whoever holds what.
    for (int64_t row = 0; row < end;) {
      const int64_t next = holders.size() == 1 ? end : cut(holders[0].held->tensor, row);
      SUTOR_ASSERT(next > row);
      add(read_of(holders, row, next));
      row = next;
    }
  }
  std::vector<int64_t> in_window;
  for (PlannedRead& read : shared) {
    read.reader = read.shares[0].rank;
    for (const ReadShare& share : read.shares) {
      if (bytes[static_cast<size_t>(share.rank)] < bytes[static_cast<size_t>(read.reader)]) {
        read.reader = share.rank;
      }
    }
    const auto reader = static_cast<size_t>(read.reader);
    const int64_t size = read.area.num_bytes();
    bytes[reader] += size;
    const int64_t room = std::max(size, (window_bytes + kWindowReads - 1) / kWindowReads);
    if (in_window.empty() || (in_window[reader] > 0 && in_window[reader] + room > window_bytes)) {
      plan.windows.emplace_back();
      in_window.assign(of_rank.size(), 0);
    }
    in_window[reader] += room;
    plan.windows.back().push_back(std::move(read));
  }
  return plan;
}

}  // namespace sutor
