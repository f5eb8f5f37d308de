#include "checkpoint/huggingface/model_shard.h"

#include <algorithm>

#include "csrc/base/error.h"

namespace sutor {
namespace {

// Large enough for the disk, small enough to stay in a core's cache while it is hashed or
// converted.
constexpr int64_t kChunkBytes = int64_t{1} << 20;

// About the disk's read-ahead, which reads a shorter gap anyway.
constexpr int64_t kFileGapBytes = int64_t{64} << 10;

}  // namespace

void ModelShard::read(const SafetensorsEntry& entry, int64_t offset,
                      std::span<std::byte> into) const {
  SUTOR_ASSERT(offset >= 0 && offset + static_cast<int64_t>(into.size()) <= entry.num_bytes());
  read_at(entry.begin + offset, into);
}

void ModelShard::stream(int64_t begin, int64_t end, const ByteSink& sink) const {
  if (begin >= end) return;
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(kChunkBytes, end - begin)));
  while (begin < end) {
    const int64_t stop = std::min(chunk_end(begin), end);
    SUTOR_ASSERT(begin < stop && stop <= begin + kChunkBytes);
    const auto chunk = std::span(buffer).first(static_cast<size_t>(stop - begin));
    read_at(begin, chunk);
    sink(chunk);
    begin = stop;
  }
}

void ModelShard::load(int64_t tensor_begin, DType dtype, const ShardedTensor& slice) const {
  SUTOR_ASSERT(slice.lies_inside());
  StridedRanges ranges = ranges_of_slice(slice, dtype);
  ranges.begin += tensor_begin;
  load_ranges(ranges, dtype, slice.data, slice.dtype);
}

void ModelShard::load_ranges(const StridedRanges& ranges, DType from_dtype, std::byte* to,
                             DType to_dtype) const {
  if (ranges.contiguous() && from_dtype == to_dtype) {
    read_at(ranges.begin, {to, static_cast<size_t>(ranges.end() - ranges.begin)});
    return;
  }
  const auto from_size = static_cast<int64_t>(size_of(from_dtype));
  stream_ranges(
      ranges, worth_skipping(),
      [this](int64_t begin, int64_t end, const ByteSink& sink) { stream(begin, end, sink); },
      [&](std::span<const std::byte> bytes) {
        const int64_t elements = static_cast<int64_t>(bytes.size()) / from_size;
        convert_elements(bytes.data(), from_dtype, to, to_dtype, elements);
        to += static_cast<size_t>(elements) * size_of(to_dtype);
      });
}

Digest ModelShard::digest(int64_t begin, int64_t end) const {
  Hasher hasher;
  stream(begin, end, [&](std::span<const std::byte> chunk) { hasher.update(chunk); });
  return hasher.digest();
}

SafetensorsShard::SafetensorsShard(const std::filesystem::path& path)
    : file_(path), name_(path.filename().string()) {}

std::string SafetensorsShard::header_bytes() const {
  std::string bytes(static_cast<size_t>(header().data_begin), '\0');
  file_.file().read_at(0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

void SafetensorsShard::read_at(int64_t offset, std::span<std::byte> into) const {
  file_.file().read_at(offset, into);
  count(static_cast<int64_t>(into.size()));
}

int64_t SafetensorsShard::chunk_end(int64_t begin) const { return begin + kChunkBytes; }

int64_t SafetensorsShard::worth_skipping() const { return kFileGapBytes; }

}  // namespace sutor
