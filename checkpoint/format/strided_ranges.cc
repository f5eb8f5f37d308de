#include "checkpoint/format/strided_ranges.h"

#include <algorithm>
#include <cstring>

namespace sutor {

StridedRanges ranges_of_slice(const ShardedTensor& slice, DType dtype) {
  const auto element = static_cast<int64_t>(size_of(dtype));
  const int64_t row = slice.row_elements();
  return {.begin = (slice.row_begin * row + slice.col_begin) * element,
          .bytes = slice.columns() * element,
          .stride = row * element,
          .count = slice.row_count};
}

void stream_ranges(const StridedRanges& ranges, int64_t worth_skipping, const ByteStream& stream,
                   const ByteSink& sink) {
  if (ranges.empty()) return;
  if (ranges.contiguous()) {
    stream(ranges.begin, ranges.end(), sink);
    return;
  }
  if (ranges.stride - ranges.bytes >= worth_skipping) {
    for (int64_t i = 0; i < ranges.count; ++i) {
      const int64_t begin = ranges.begin + i * ranges.stride;
      stream(begin, begin + ranges.bytes, sink);
    }
    return;
  }
  int64_t at = 0;  // of the strip and the gap behind it
  stream(ranges.begin, ranges.end(), [&](std::span<const std::byte> chunk) {
    while (!chunk.empty()) {
      const bool inside = at < ranges.bytes;
      const int64_t stop = inside ? ranges.bytes : ranges.stride;
      const size_t size = std::min(chunk.size(), static_cast<size_t>(stop - at));
      if (inside) sink(chunk.first(size));
      chunk = chunk.subspan(size);
      at += static_cast<int64_t>(size);
      if (at == ranges.stride) at = 0;
    }
  });
}

ByteSink into_ranges(std::byte* to, int64_t bytes, int64_t stride) {
  return [to, bytes, stride, at = int64_t{0}](std::span<const std::byte> chunk) mutable {
    while (!chunk.empty()) {
      const size_t size = std::min(chunk.size(), static_cast<size_t>(bytes - at));
      std::memcpy(to + at, chunk.data(), size);
      chunk = chunk.subspan(size);
      at += static_cast<int64_t>(size);
      if (at < bytes) continue;
      to += stride;
      at = 0;
    }
  };
}

}  // namespace sutor
