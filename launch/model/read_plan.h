// Who on a node reads what of the model's weights, so that no byte is fetched twice there: pure
// arithmetic over the pieces that the node's ranks hold, the same on all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace sutor {

// Rows x columns of a tensor (sharded_tensor.h), as a rank holds them. Ranks exchange it as bytes.
struct ShardBounds {
  int64_t tensor = 0;  // number in the model's list
  int64_t row_begin = 0, row_count = 0;
  int64_t col_begin = 0, col_count = 0;
  int64_t element_bytes = 0;

  int64_t num_bytes() const { return row_count * col_count * element_bytes; }
};

// Rows of a piece that come from one read.
struct ReadSlice {
  int rank = 0;      // of the node
  size_t shard = 0;  // number in the rank's list
  int64_t row_begin = 0, row_count = 0;
};

struct PlannedRead {
  ShardBounds extent;  // what is read, once; the smallest that holds all shares
  int reader = 0;      // one of the ranks that have a share
  std::vector<ReadSlice> slices;
};

struct ReadPlan {
  std::vector<PlannedRead> unshared;  // of one rank, which reads it into place
  // The others, to be read, sent and received window after window: in one no rank reads more than
  // the window's bytes, unless a single read has more, nor more often than kRoundReads.
  std::vector<std::vector<PlannedRead>> rounds;
};

// So few that the sends which are under way at a time are cheap to look after.
inline constexpr int64_t kRoundReads = 256;

// Where a read of a tensor that begins at a row had best end (ModelDirectory::read_end_row).
using ReadBoundary = std::function<int64_t(int64_t tensor, int64_t row)>;

// of_rank: the pieces of each rank of the node, by rank. A tensor of which one piece is held at all
// is read whole by its rank; others are cut into runs of rows, each read by the one of its holders
// that has the fewest bytes to read so far.
ReadPlan plan_reads(const std::vector<std::vector<ShardBounds>>& of_rank,
                    const ReadBoundary& boundary, int64_t buffer_bytes);

}  // namespace sutor
