#include "checkpoint/format/strided_ranges.h"

#include <algorithm>
#include <cstring>

namespace sutor {

Strips strips_in_whole(const ShardedTensor& piece, DType dtype) {
  const auto element = static_cast<int64_t>(size_of(dtype));
  const int64_t row = piece.row_elements();
  return {.begin = (piece.row_begin * row + piece.col_begin) * element,
          .bytes = piece.columns() * element,
          .stride = row * element,
          .count = piece.row_count};
}

void stream_strips(const Strips& strips, int64_t worth_skipping, const ByteStream& stream,
                   const ByteSink& sink) {
  if (strips.empty()) return;
  if (strips.contiguous()) {
    stream(strips.begin, strips.end(), sink);
    return;
  }
  if (strips.stride - strips.bytes >= worth_skipping) {
    for (int64_t i = 0; i < strips.count; ++i) {
      const int64_t begin = strips.begin + i * strips.stride;
      stream(begin, begin + strips.bytes, sink);
    }
    return;
  }
  int64_t at = 0;  // of the strip and the gap behind it
  stream(strips.begin, strips.end(), [&](std::span<const std::byte> piece) {
    while (!piece.empty()) {
      const bool inside = at < strips.bytes;
      const int64_t stop = inside ? strips.bytes : strips.stride;
      const size_t size = std::min(piece.size(), static_cast<size_t>(stop - at));
      if (inside) sink(piece.first(size));
      piece = piece.subspan(size);
      at += static_cast<int64_t>(size);
      if (at == strips.stride) at = 0;
    }
  });
}

ByteSink into_strips(std::byte* to, int64_t bytes, int64_t stride) {
  return [to, bytes, stride, at = int64_t{0}](std::span<const std::byte> piece) mutable {
    while (!piece.empty()) {
      const size_t size = std::min(piece.size(), static_cast<size_t>(bytes - at));
      std::memcpy(to + at, piece.data(), size);
      piece = piece.subspan(size);
      at += static_cast<int64_t>(size);
      if (at < bytes) continue;
      to += stride;
      at = 0;
    }
  };
}

}  // namespace sutor
