// StridedRanges: equal runs of bytes at equal distances, which is how some columns of a matrix lie
// where whole rows follow each other. They are cut out of consecutive bytes and put in place here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "parallel_state/model/sharded_tensor.h"

namespace sutor {

using ByteSink = std::function<void(std::span<const std::byte>)>;
// Gives bytes [begin, end) of something to the sink, piece by piece in their order.
using ByteStream = std::function<void(int64_t begin, int64_t end, const ByteSink& sink)>;

struct StridedRanges {
  int64_t begin = 0;   // first byte of the first one
  int64_t bytes = 0;   // of each
  int64_t stride = 0;  // from the first byte of one to that of the next; at least `bytes`
  int64_t count = 0;

  bool empty() const { return bytes == 0 || count == 0; }
  bool contiguous() const { return count <= 1 || stride == bytes; }
  int64_t end() const { return empty() ? begin : begin + (count - 1) * stride + bytes; }
};

// Where a piece lies in its whole tensor, stored row after row in `dtype` from byte 0 on.
StridedRanges ranges_of_slice(const ShardedTensor& slice, DType dtype);

// Gives the bytes of all strips to `sink`, in their order and in pieces of any size that are no
// larger than those of `stream`. Gaps of `worth_skipping` bytes or more are never asked for;
// shorter ones are read and dropped, which costs less than another read.
void stream_ranges(const StridedRanges& ranges, int64_t worth_skipping, const ByteStream& stream,
                   const ByteSink& sink);

// Copies what it gets, in its order, to strips of `bytes` bytes from `to` on, `stride` apart.
ByteSink into_ranges(std::byte* to, int64_t bytes, int64_t stride);

}  // namespace sutor
