// Which rank of a node reads which of the model's weights, so that no byte is fetched twice there:
// pure arithmetic over the shards of the node's ranks, the same on all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace sutor {

// Rows x columns of a tensor (sharded_tensor.h): a rank's shard. Ranks exchange it as bytes.
struct ShardBounds {
  int64_t tensor = 0;  // number in the model's list
  int64_t row_begin = 0, row_count = 0;
  int64_t col_begin = 0, col_count = 0;
  int64_t element_bytes = 0;

  int64_t num_bytes() const { return row_count * col_count * element_bytes; }
};

// The rows of a shard that come from one read.
struct ReadSlice {
  int rank = 0;      // of the node
  size_t shard = 0;  // index in the rank's list
  int64_t row_begin = 0, row_count = 0;
};

struct PlannedRead {
  ShardBounds extent;  // read once; the smallest that includes all slices
  int reader = 0;      // one of the ranks of the slices
  std::vector<ReadSlice> slices;
};

struct ReadPlan {
  std::vector<PlannedRead> unshared;  // for one rank, which reads directly into its shard
  // The other reads, which are read, sent and received round by round. In a round, no rank reads
  // more bytes than its read buffer has, unless a single read is larger, nor more than kRoundReads
  // reads.
  std::vector<std::vector<PlannedRead>> rounds;
};

// Few enough that tracking the sends of a round is cheap.
inline constexpr int64_t kRoundReads = 256;

// The row at which a read of a tensor that begins at `row` should end
// (ModelDirectory::read_end_row).
using ReadBoundary = std::function<int64_t(int64_t tensor, int64_t row)>;

// of_rank: the shards of each rank of the node. A tensor that only one rank needs is read by that
// rank in one read; others are split at read boundaries, and of the ranks that need such a row
// range the one with the fewest bytes to read so far reads it.
ReadPlan plan_reads(const std::vector<std::vector<ShardBounds>>& of_rank,
                    const ReadBoundary& boundary, int64_t buffer_bytes);

}  // namespace sutor
