#include "checkpoint/huggingface/stored_bytes.h"

#include <algorithm>

#include "checkpoint/huggingface/quantized_source.h"

namespace sutor {
namespace {

void stream_bytes(const ModelShard& file, const StridedRanges& ranges, const ByteSink& sink) {
  constexpr int64_t kReadOver = int64_t{64} << 10;
  stream_ranges(
      ranges, kReadOver,
      [&](int64_t begin, int64_t end, const ByteSink& to) { file.stream(begin, end, to); }, sink);
}

}  // namespace

void stream_values(const ModelDirectory& directory, const TensorEntry& tensor, DType dtype,
                   const ByteSink& sink, int64_t bytes_at_once) {
  ShardedTensor slice{.name = tensor.name, .dtype = dtype, .global_shape = tensor.shape};
  const int64_t rows = tensor.shape.empty() ? 1 : tensor.shape[0];
  const int64_t row_bytes = slice.row_elements() * static_cast<int64_t>(size_of(dtype));
  if (rows * row_bytes == 0) return;
  const int64_t at_once = std::clamp(bytes_at_once / row_bytes, int64_t{1}, rows);
  std::vector<std::byte> bytes(static_cast<size_t>(at_once * row_bytes));
  slice.data = bytes.data();
  for (int64_t row = 0; row < rows; row += at_once) {
    slice.row_begin = row;
    slice.row_count = std::min(at_once, rows - row);
    directory.load(tensor, slice);
    sink({bytes.data(), slice.num_bytes()});
  }
}

void stream_stored(const ModelDirectory& directory, const TensorEntry& tensor,
                   const ResolvedSource& found, const ByteSink& sink) {
  const ModelShard& file = *found.stored.file;
  if (found.transposed()) {
    stream_values(directory, tensor, computable(found.stored), sink);
    return;
  }
  stream_bytes(file, found.ranges(0, found.rows, 0, found.columns), sink);
  if (found.encoding == Encoding::kPlain) return;
  check_scales(found, tensor, directory.quantization());
  const SafetensorsEntry& scales = *found.scales->entry;
  if (found.encoding == Encoding::kMxfp4) {
    stream_bytes(*found.scales->file, found.scale_ranges(0, found.rows), sink);
  } else {
    found.scales->file->stream(scales.begin, scales.end, sink);
    if (!found.zero_points) return;
    const SafetensorsEntry& zeros = *found.zero_points->entry;
    found.zero_points->file->stream(zeros.begin, zeros.end, sink);
  }
}

Digest stored_digest(const ModelDirectory& directory, const TensorEntry& tensor,
                     const ResolvedSource& found) {
  Hasher hasher;
  stream_stored(directory, tensor, found,
                [&](std::span<const std::byte> bytes) { hasher.update(bytes); });
  return hasher.digest();
}

}  // namespace sutor
