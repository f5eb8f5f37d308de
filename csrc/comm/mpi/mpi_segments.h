// Collectives over a buffer that holds one segment a rank, begun at once and done later. MPI counts
// in ints, and transports limit a message; what is longer goes in several requests, which are all
// under way together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "csrc/comm/mpi/polled_comm.h"

namespace sutor {

// Elements of one request, by default: its messages stay at 1 GiB, whether of floats or bytes.
inline constexpr int64_t kMostFloats = int64_t{1} << 28, kMostBytes = int64_t{1} << 30;

// A range of the buffer, [begin, begin + sum of counts): what it has of each rank's segment, and
// where that begins in the range.
struct SegmentChunk {
  int64_t begin = 0;
  std::vector<int> counts, offsets;  // [ranks]
};

// The buffer in chunks of `most` elements, the last one shorter; none when it is empty. `counts`:
// elements of each rank's segment.
std::vector<SegmentChunk> segment_chunks(std::span<const int64_t> counts, int64_t most);

struct SegmentRequests {
  std::vector<SegmentChunk> chunks;  // MPI reads their counts until the requests are done
  std::vector<MPI_Request> requests;
};

// Collective. The sums over ranks of this rank's segment go to `own`. Both buffers must live and
// `data` must stay as it is until the requests are done.
SegmentRequests begin_reduce_scatter(const PolledComm& group, std::span<const float> data,
                                     std::span<const int64_t> counts, std::span<float> own,
                                     const char* name, int64_t most = kMostFloats);

// Collective. Fills the segments of the other ranks; `bytes`: of each.
SegmentRequests begin_all_gather(const PolledComm& group, std::span<std::byte> data,
                                 std::span<const int64_t> bytes, const char* name,
                                 int64_t most = kMostBytes);

}  // namespace sutor
