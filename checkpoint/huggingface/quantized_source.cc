#include "checkpoint/huggingface/quantized_source.h"

#include <algorithm>
#include <tuple>

#include "csrc/base/error.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace {

constexpr int64_t kMostExtent = int64_t{1} << 40;
constexpr int64_t kChunkBytes = int64_t{1} << 20;

// {rows, columns} of an FP8 block: `weight_block_size` of the quantization_config.
std::pair<int64_t, int64_t> fp8_block(const nlohmann::json& config) {
  const auto found = config.find("quantization_config");
  if (found == config.end() || !found->is_object()) return {0, 0};
  const auto size = found->find("weight_block_size");
  if (size == found->end() || !size->is_array() || size->size() != 2) return {0, 0};
  const auto extent = [](const nlohmann::json& n) {
    const bool sensible = n.is_number_integer() && n > 0 && n <= kMostExtent;
    return sensible ? n.get<int64_t>() : 0;
  };
  return {extent((*size)[0]), extent((*size)[1])};
}

std::string_view scale_suffix(Encoding encoding) {
  if (encoding == Encoding::kFp8Blocks) return kFp8Scale;
  return encoding == Encoding::kMxfp4 ? kMxfp4Scales : kPackedScale;
}

void require_scales(const ResolvedSource& found) {
  if (found.scales) return;
  fail(ErrorCode::kBadStoredDType, "{}: tensor `{}` is {}, and there is no `{}{}` with its scales",
       found.stored.file->where(), found.stored.entry->name, found.stored.entry->dtype_name,
       found.source->name, scale_suffix(found.encoding));
}

// Whether the source is the stored tensor as a whole, in its own order.
bool is_entire_tensor(const DiskSource& source) {
  return source.index < 0 && source.row_begin == 0 && source.row_step == 1 && !source.transposed;
}

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

// How the scales of an FP8 or INT4 matrix lie over it, from headers alone: without their values.
BlockScales scale_grid(const ResolvedSource& found, const TensorEntry& tensor,
                       const nlohmann::json& config) {
  require_scales(found);
  const SafetensorsEntry& weight = *found.stored.entry;
  const bool fp8 = found.encoding == Encoding::kFp8Blocks;
  const SafetensorsEntry& entry = *found.scales->entry;
  BlockScales scales{.dtype = computable(*found.scales)};
  bool fits =
      entry.shape.size() == 2 && tensor.shape.size() == 2 && is_entire_tensor(*found.source);
  const int64_t rows = fits ? tensor.shape[0] : 0, cols = fits ? tensor.shape[1] : 0;
  if (fits) {
    scales.cols = entry.shape[1];
    std::tie(scales.block_rows, scales.block_cols) =
        fp8 ? fp8_block(config) : std::pair<int64_t, int64_t>{1, 0};
    const auto or_even = [](int64_t& block, int64_t extent, int64_t blocks) {
      if (block == 0 && blocks > 0 && extent % blocks == 0) block = extent / blocks;
    };
    or_even(scales.block_rows, rows, entry.shape[0]);
    or_even(scales.block_cols, cols, entry.shape[1]);
    const auto covers = [](int64_t block, int64_t extent, int64_t blocks) {
      return block > 0 && (extent + block - 1) / block == blocks;
    };
    fits = covers(scales.block_rows, rows, entry.shape[0]) &&
           covers(scales.block_cols, cols, entry.shape[1]);
  }
  if (!fits) {
    fail(ErrorCode::kBadStoredDType,
         "{}: the scales `{}` {} do not fit the matrix `{}` {} (blocks of {} x {})",
         found.stored.file->where(), entry.name, shape_text(entry.shape), weight.name,
         shape_text(tensor.shape), scales.block_rows, scales.block_cols);
  }
  return scales;
}

// Those of rows [row_begin, row_begin + row_count) of the matrix.
BlockScales read_row_scales(const ResolvedSource& found, const TensorEntry& tensor,
                            const nlohmann::json& config, int64_t row_begin, int64_t row_count) {
  BlockScales scales = scale_grid(found, tensor, config);
  const SafetensorsEntry& entry = *found.scales->entry;
  scales.row_begin = row_begin / scales.block_rows;
  const int64_t end = (row_begin + row_count + scales.block_rows - 1) / scales.block_rows;
  const int64_t count = row_count == 0 ? 0 : end - scales.row_begin;
  scales.values.resize(static_cast<size_t>(count * scales.cols));
  found.scales->file->load(entry.begin, scales.dtype,
                           {.name = entry.name,
                            .dtype = DType::kF32,
                            .global_shape = entry.shape,
                            .row_begin = scales.row_begin,
                            .row_count = count,
                            .data = reinterpret_cast<std::byte*>(scales.values.data())});
  return scales;
}

void load_blocks(const ResolvedSource& found, const BlockScales& scales, const ShardedTensor& to) {
  const bool fp8 = found.encoding == Encoding::kFp8Blocks;
  // The rows as bytes: the wanted elements, or whole packed rows.
  ShardedTensor raw{.name = to.name, .dtype = DType::kU8, .global_shape = to.global_shape};
  if (fp8) {
    raw.col_begin = to.col_begin;
    raw.col_count = to.columns();
  } else {
    raw.global_shape[1] /= 2;
  }
  const int64_t columns = to.columns();
  if (to.num_elements() == 0) return;
  const int64_t chunk_rows = std::clamp(kChunkBytes / raw.columns(), int64_t{1}, to.row_count);
  std::vector<std::byte> bytes(static_cast<size_t>(chunk_rows * raw.columns()));
  std::vector<float> values(static_cast<size_t>(columns));
  std::byte* out = to.data;
  raw.data = bytes.data();
  for (int64_t begin = 0; begin < to.row_count; begin += chunk_rows) {
    raw.row_begin = to.row_begin + begin;
    raw.row_count = std::min(chunk_rows, to.row_count - begin);
    found.stored.file->load(found.origin, DType::kU8, raw);
    for (int64_t i = 0; i < raw.row_count; ++i) {
      const std::byte* row = raw.data + i * raw.columns();
      const auto dequantize = fp8 ? dequantize_fp8 : dequantize_int4;
      dequantize(row, scales, raw.row_begin + i, to.col_begin, columns, values.data());
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
                  const nlohmann::json& config) {
  if (found.encoding == Encoding::kMxfp4) {
    check_mxfp4(found);
  } else {
    scale_grid(found, tensor, config);
  }
}

BlockScales read_scales(const ResolvedSource& found, const TensorEntry& tensor,
                        const nlohmann::json& config) {
  return read_row_scales(found, tensor, config, 0, found.rows);
}

void load_quantized(const ResolvedSource& found, const TensorEntry& tensor,
                    const nlohmann::json& config, const ShardedTensor& destination) {
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
