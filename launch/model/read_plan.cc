#include "launch/model/read_plan.h"

#include <algorithm>

#include "csrc/base/error.h"

namespace sutor {
namespace {

struct ShardRef {
  int rank = 0;
  size_t shard = 0;
  const ShardBounds* bounds = nullptr;
};

// Grows `area` to hold these rows of the piece.
void cover(ShardBounds& extent, const ShardBounds& shard, int64_t row_begin, int64_t row_end) {
  if (extent.row_count == 0) {
    extent = shard;
    extent.row_begin = row_begin;
    extent.row_count = row_end - row_begin;
    return;
  }
  SUTOR_ASSERT(extent.element_bytes == shard.element_bytes);
  const int64_t rows = std::max(extent.row_begin + extent.row_count, row_end);
  const int64_t columns =
      std::max(extent.col_begin + extent.col_count, shard.col_begin + shard.col_count);
  extent.row_begin = std::min(extent.row_begin, row_begin);
  extent.row_count = rows - extent.row_begin;
  extent.col_begin = std::min(extent.col_begin, shard.col_begin);
  extent.col_count = columns - extent.col_begin;
}

// What is wanted of rows [begin, end).
PlannedRead read_of(const std::vector<ShardRef>& refs, int64_t begin, int64_t end) {
  PlannedRead read;
  for (const ShardRef& ref : refs) {
    const ShardBounds& shard = *ref.bounds;
    const int64_t first = std::max(begin, shard.row_begin);
    const int64_t last = std::min(end, shard.row_begin + shard.row_count);
    if (first >= last) continue;
    cover(read.extent, shard, first, last);
    read.slices.push_back({ref.rank, ref.shard, first, last - first});
  }
  return read;
}

std::vector<std::vector<ShardRef>> shards_by_tensor(
    const std::vector<std::vector<ShardBounds>>& of_rank) {
  std::vector<std::vector<ShardRef>> refs;
  for (size_t rank = 0; rank < of_rank.size(); ++rank) {
    for (size_t i = 0; i < of_rank[rank].size(); ++i) {
      const ShardBounds& shard = of_rank[rank][i];
      if (shard.num_bytes() == 0) continue;
      const auto tensor = static_cast<size_t>(shard.tensor);
      if (refs.size() <= tensor) refs.resize(tensor + 1);
      refs[tensor].push_back({static_cast<int>(rank), i, &shard});
    }
  }
  return refs;
}

}  // namespace

ReadPlan plan_reads(const std::vector<std::vector<ShardBounds>>& of_rank,
                    const ReadBoundary& boundary, int64_t buffer_bytes) {
  ReadPlan plan;
  std::vector<PlannedRead> shared;
  std::vector<int64_t> bytes(of_rank.size(), 0);  // to be read by each rank
  const auto add = [&](PlannedRead read) {
    if (read.slices.empty()) return;
    if (read.slices.size() > 1) return shared.push_back(std::move(read));
    read.reader = read.slices[0].rank;
    bytes[static_cast<size_t>(read.reader)] += read.extent.num_bytes();
    plan.unshared.push_back(std::move(read));
  };
  for (const std::vector<ShardRef>& refs : shards_by_tensor(of_rank)) {
    int64_t end = 0;
    for (const ShardRef& ref : refs) {
      end = std::max(end, ref.bounds->row_begin + ref.bounds->row_count);
    }
    // From the tensor's first row on: cuts are where its tiles end, whoever holds what.
    for (int64_t row = 0; row < end;) {
      const int64_t next = refs.size() == 1 ? end : boundary(refs[0].bounds->tensor, row);
      SUTOR_ASSERT(next > row);
      add(read_of(refs, row, next));
      row = next;
    }
  }
  std::vector<int64_t> in_round;
  for (PlannedRead& read : shared) {
    read.reader = read.slices[0].rank;
    for (const ReadSlice& slice : read.slices) {
      if (bytes[static_cast<size_t>(slice.rank)] < bytes[static_cast<size_t>(read.reader)]) {
        read.reader = slice.rank;
      }
    }
    const auto reader = static_cast<size_t>(read.reader);
    const int64_t size = read.extent.num_bytes();
    bytes[reader] += size;
    const int64_t room = std::max(size, (buffer_bytes + kRoundReads - 1) / kRoundReads);
    if (in_round.empty() || (in_round[reader] > 0 && in_round[reader] + room > buffer_bytes)) {
      plan.rounds.emplace_back();
      in_round.assign(of_rank.size(), 0);
    }
    in_round[reader] += room;
    plan.rounds.back().push_back(std::move(read));
  }
  return plan;
}

}  // namespace sutor
