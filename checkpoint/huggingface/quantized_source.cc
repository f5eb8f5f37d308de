#include "checkpoint/huggingface/quantized_source.h"

#include <algorithm>
#include <cstring>

#include "checkpoint/huggingface/scale_grid.h"
#include "csrc/base/error.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace {

constexpr int64_t kChunkBytes = int64_t{1} << 20;

// Checks that there is a byte of scale for each group.
void check_mxfp4(const ResolvedSource& found) {
  require_scales(found);
  const SafetensorsEntry& blocks = *found.stored.entry;
  const SafetensorsEntry& scales = *found.scales->entry;
  const std::vector<int64_t> expected(blocks.shape.begin(), blocks.shape.end() - 1);
  if (scales.dtype == DType::kU8 && scales.shape == expected) return;
  fail(ErrorCode::kBadStoredDType,
       "{}: the scales `{}` {} {} do not fit the blocks `{}` {}: expected U8 {}",
       found.scales->file->where(), scales.name, scales.dtype_name, shape_text(scales.shape),
       blocks.name, shape_text(blocks.shape), shape_text(expected));
}

// Whole rows [begin, begin + count) of a stored matrix that has no more rows than fit in memory.
void load_rows(const StoredTensor& stored, DType from, DType to, int64_t columns, int64_t begin,
               int64_t count, std::byte* into) {
  const auto row_bytes = columns * static_cast<int64_t>(size_of(from));
  stored.file->load_ranges({.begin = stored.entry->begin + begin * row_bytes,
                            .bytes = row_bytes,
                            .stride = row_bytes,
                            .count = count},
                           from, into, to);
}

void read_values(const ResolvedSource& found, BlockScales& scales, int64_t count) {
  scales.values.resize(static_cast<size_t>(count * scales.cols));
  if (!scales.exponents) {
    load_rows(*found.scales, scales.dtype, DType::kF32, scales.cols, scales.row_begin, count,
              reinterpret_cast<std::byte*>(scales.values.data()));
    return;
  }
  std::vector<std::byte> bytes(scales.values.size());
  load_rows(*found.scales, DType::kU8, DType::kU8, scales.cols, scales.row_begin, count,
            bytes.data());
  std::transform(bytes.begin(), bytes.end(), scales.values.begin(),
                 [](std::byte byte) { return e8m0_value(static_cast<uint8_t>(byte)); });
}

// Packed ones lie along the rows: a word has those of some consecutive rows of scales.
void read_zero_points(const ResolvedSource& found, BlockScales& scales, int64_t count) {
  if (!found.zero_points || count == 0) return;
  const int64_t cols = scales.cols;
  scales.zero_points.resize(static_cast<size_t>(count * cols));
  if (found.zero_points->entry->dtype == DType::kI8) {
    load_rows(*found.zero_points, DType::kU8, DType::kU8, cols, scales.row_begin, count,
              reinterpret_cast<std::byte*>(scales.zero_points.data()));
    return;
  }
  const int64_t in_word = 32 / found.bits, first = scales.row_begin / in_word;
  const int64_t end = (scales.row_begin + count + in_word - 1) / in_word;
  std::vector<uint32_t> words(static_cast<size_t>((end - first) * cols));
  load_rows(*found.zero_points, DType::kU8, DType::kU8, cols * 4, first, end - first,
            reinterpret_cast<std::byte*>(words.data()));
  const uint32_t mask = (uint32_t{1} << found.bits) - 1;
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = scales.row_begin + r;
    for (int64_t c = 0; c < cols; ++c) {
      const uint32_t word = words[static_cast<size_t>((row / in_word - first) * cols + c)];
      const auto code = static_cast<int>(word >> (row % in_word * found.bits) & mask);
      scales.zero_points[static_cast<size_t>(r * cols + c)] =
          static_cast<int8_t>(code - (1 << (found.bits - 1)));
    }
  }
}

void read_column_order(const ResolvedSource& found, BlockScales& scales) {
  if (!found.column_order) return;
  const SafetensorsEntry& entry = *found.column_order->entry;
  std::vector<std::byte> bytes(static_cast<size_t>(entry.num_bytes()));
  found.column_order->file->read(entry, 0, bytes);
  scales.group_of_column.resize(static_cast<size_t>(found.columns));
  const size_t size = size_of(*entry.dtype);
  for (size_t c = 0; c < scales.group_of_column.size(); ++c) {
    int64_t group = 0;
    if (size == 8) {
      std::memcpy(&group, bytes.data() + c * size, size);
    } else {
      int32_t stored;
      std::memcpy(&stored, bytes.data() + c * size, size);
      group = stored;
    }
    if (group == -1) {  // written before the columns were ordered: they are as they lie
      scales.group_of_column.clear();
      return;
    }
    if (group < 0 || group >= scales.cols) {
      fail(ErrorCode::kBadStoredDType, "{}: `{}` says that column {} is in group {} of {}",
           found.column_order->file->where(), entry.name, c, group, scales.cols);
    }
    scales.group_of_column[c] = static_cast<int32_t>(group);
  }
}

// Those of rows [row_begin, row_begin + row_count) of the matrix.
BlockScales read_row_scales(const ResolvedSource& found, const TensorEntry& tensor,
                            const QuantizationConfig& config, int64_t row_begin,
                            int64_t row_count) {
  BlockScales scales = scale_grid(found, tensor, config);
  scales.row_begin = row_begin / scales.block_rows;
  const int64_t end = (row_begin + row_count + scales.block_rows - 1) / scales.block_rows;
  const int64_t count = row_count == 0 ? 0 : end - scales.row_begin;
  read_values(found, scales, count);
  read_zero_points(found, scales, count);
  read_column_order(found, scales);
  return scales;
}

void load_blocks(const ResolvedSource& found, const BlockScales& scales, const ShardedTensor& to) {
  const int64_t columns = to.columns();
  if (to.num_elements() == 0) return;
  // The rows as bytes: the wanted elements, or whole packed rows.
  const bool packed = found.encoding == Encoding::kPackedInts;
  const int64_t row_bytes = packed ? found.packed_row_bytes : columns;
  const int64_t chunk_rows = std::clamp(kChunkBytes / row_bytes, int64_t{1}, to.row_count);
  std::vector<std::byte> bytes(static_cast<size_t>(chunk_rows * row_bytes));
  std::vector<float> values(static_cast<size_t>(columns));
  std::byte* out = to.data;
  for (int64_t begin = 0; begin < to.row_count; begin += chunk_rows) {
    const int64_t first = to.row_begin + begin, count = std::min(chunk_rows, to.row_count - begin);
    found.stored.file->load_ranges(found.ranges(first, count, to.col_begin, columns), DType::kU8,
                                   bytes.data(), DType::kU8);
    for (int64_t i = 0; i < count; ++i) {
      const std::byte* row = bytes.data() + i * row_bytes;
      if (packed) {
        decode_packed(row, found.bits, to.col_begin, columns, values.data());
      } else {
        (found.encoding == Encoding::kFp8 ? decode_fp8 : decode_int8)(row, columns, values.data());
      }
      apply_scales(scales, first + i, to.col_begin, columns, values.data());
      convert_elements(reinterpret_cast<const std::byte*>(values.data()), DType::kF32, out,
                       to.dtype, columns);
      out += static_cast<size_t>(columns) * size_of(to.dtype);
    }
  }
}

void load_mxfp4(const ResolvedSource& found, const ShardedTensor& to) {
  const int64_t columns = to.columns();
  if (to.num_elements() == 0) return;
  const int64_t first_group = to.col_begin / kMxfp4Group;
  const int64_t groups = (to.col_begin + columns + kMxfp4Group - 1) / kMxfp4Group - first_group;
  const int64_t row_bytes = groups * kMxfp4GroupBytes;
  const int64_t chunk_rows = std::clamp(kChunkBytes / row_bytes, int64_t{1}, to.row_count);
  std::vector<std::byte> blocks(static_cast<size_t>(chunk_rows * row_bytes));
  std::vector<std::byte> scales(static_cast<size_t>(chunk_rows * groups));
  std::vector<float> values(static_cast<size_t>(groups * kMxfp4Group));
  const float* wanted = values.data() + (to.col_begin - first_group * kMxfp4Group);
  const auto load = [](const ModelShard& file, StridedRanges rows, int64_t skipped, int64_t bytes,
                       std::vector<std::byte>& into) {
    rows.begin += skipped;
    rows.bytes = bytes;
    file.load_ranges(rows, DType::kU8, into.data(), DType::kU8);
  };
  std::byte* out = to.data;
  for (int64_t begin = 0; begin < to.row_count; begin += chunk_rows) {
    const int64_t row = to.row_begin + begin, count = std::min(chunk_rows, to.row_count - begin);
    load(*found.stored.file, found.ranges(row, count, 0, found.columns),
         first_group * kMxfp4GroupBytes, row_bytes, blocks);
    load(*found.scales->file, found.scale_ranges(row, count), first_group, groups, scales);
    for (int64_t i = 0; i < count; ++i) {
      dequantize_mxfp4(blocks.data() + i * row_bytes, scales.data() + i * groups, groups,
                       values.data());
      convert_elements(reinterpret_cast<const std::byte*>(wanted), DType::kF32, out, to.dtype,
                       columns);
      out += static_cast<size_t>(columns) * size_of(to.dtype);
    }
  }
}

}  // namespace

void check_scales(const ResolvedSource& found, const TensorEntry& tensor,
                  const QuantizationConfig& config) {
  if (found.encoding == Encoding::kMxfp4) {
    check_mxfp4(found);
  } else {
    scale_grid(found, tensor, config);
  }
}

BlockScales read_scales(const ResolvedSource& found, const TensorEntry& tensor,
                        const QuantizationConfig& config) {
  return read_row_scales(found, tensor, config, 0, found.rows);
}

void load_quantized(const ResolvedSource& found, const TensorEntry& tensor,
                    const QuantizationConfig& config, const ShardedTensor& destination) {
  if (found.encoding == Encoding::kMxfp4) {
    check_mxfp4(found);
    load_mxfp4(found, destination);
  } else {
    const BlockScales scales =
        read_row_scales(found, tensor, config, destination.row_begin, destination.row_count);
    load_blocks(found, scales, destination);
  }
}

}  // namespace sutor
