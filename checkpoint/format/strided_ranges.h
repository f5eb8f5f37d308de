// Strided ranges: runs of bytes of equal length at equal distances. Some columns of a matrix that
// is stored row after row are such ranges. They are read from consecutive bytes, or written into
// memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "parallel_state/model/sharded_tensor.h"

namespace sutor {

using ByteSink = std::function<void(std::span<const std::byte>)>;
// Gives bytes [begin, end) of something to the sink, in order and in chunks.
using ByteStream = std::function<void(int64_t begin, int64_t end, const ByteSink& sink)>;

struct StridedRanges {
  int64_t begin = 0;   // first byte of the first range
  int64_t bytes = 0;   // of each range
  int64_t stride = 0;  // from the first byte of a range to that of the next; at least `bytes`
  int64_t count = 0;

  bool empty() const { return bytes == 0 || count == 0; }
  bool contiguous() const { return count <= 1 || stride == bytes; }
  int64_t end() const { return empty() ? begin : begin + (count - 1) * stride + bytes; }
};

// The ranges of a slice in its whole tensor, which is stored row after row in `dtype` from byte 0.
StridedRanges ranges_of_slice(const ShardedTensor& slice, DType dtype);

// Gives the bytes of all ranges to `sink`, in order and in chunks that are no larger than those of
// `stream`. Gaps of `worth_skipping` bytes or more are not read; shorter ones are read and dropped,
// which costs less than another read.
void stream_ranges(const StridedRanges& ranges, int64_t worth_skipping, const ByteStream& stream,
                   const ByteSink& sink);

// A sink that copies what it gets, in order, to ranges of `bytes` bytes, `stride` apart, from `to`.
ByteSink into_ranges(std::byte* to, int64_t bytes, int64_t stride);

}  // namespace sutor
