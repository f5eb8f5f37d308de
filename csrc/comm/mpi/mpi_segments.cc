#include "csrc/comm/mpi/mpi_segments.h"

#include <algorithm>
#include <numeric>

#include "csrc/base/error.h"

namespace sutor {

std::vector<SegmentChunk> segment_chunks(std::span<const int64_t> counts, int64_t most) {
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  std::vector<SegmentChunk> chunks;
  for (int64_t begin = 0; begin < total; begin += most) {
    SegmentChunk& chunk = chunks.emplace_back();
    chunk.begin = begin;
    const int64_t end = std::min(begin + most, total);
    int64_t segment = 0;
    for (const int64_t count : counts) {
      const int64_t first = std::clamp(segment, begin, end);
      const int64_t last = std::clamp(segment + count, begin, end);
      chunk.offsets.push_back(static_cast<int>(first - begin));
      chunk.counts.push_back(static_cast<int>(last - first));
      segment += count;
    }
  }
  return chunks;
}

SegmentRequests begin_reduce_scatter(const PolledComm& group, std::span<const float> data,
                                     std::span<const int64_t> counts, std::span<float> own,
                                     const char* name, int64_t most) {
  SUTOR_ASSERT(static_cast<int64_t>(own.size()) == counts[group.rank]);
  SegmentRequests begun{segment_chunks(counts, most), {}};
  float* into = own.data();
  for (const SegmentChunk& chunk : begun.chunks) {
    group.check(MPI_Ireduce_scatter(data.data() + chunk.begin, into, chunk.counts.data(), MPI_FLOAT,
                                    MPI_SUM, group.comm, &begun.requests.emplace_back()),
                name);
    into += chunk.counts[group.rank];
  }
  return begun;
}

SegmentRequests begin_all_gather(const PolledComm& group, std::span<std::byte> data,
                                 std::span<const int64_t> bytes, const char* name, int64_t most) {
  SegmentRequests begun{segment_chunks(bytes, most), {}};
  for (const SegmentChunk& chunk : begun.chunks) {
    group.check(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data.data() + chunk.begin,
                                chunk.counts.data(), chunk.offsets.data(), MPI_BYTE, group.comm,
                                &begun.requests.emplace_back()),
                name);
  }
  return begun;
}

}  // namespace sutor
