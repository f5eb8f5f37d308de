#include "checkpoint/export/requantize.h"

#include <algorithm>
#include <cmath>

#include "csrc/base/error.h"

namespace sutor {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 18;

// Its name, rows and columns; read() is the caller's.
FloatRows rows_like(const std::string& name, const std::vector<int64_t>& shape) {
  return {.name = name,
          .rows = shape.empty() ? 1 : shape[0],
          .columns = ShardedTensor{.global_shape = shape}.row_elements(),
          .read = {}};
}

void require_finite(const FloatRows& values, const float* from, int64_t count) {
  if (std::all_of(from, from + count, [](float value) { return std::isfinite(value); })) return;
  fail(ErrorCode::kNotQuantizable,
       "`{}` holds a trained value that is no finite number: it cannot be quantised", values.name);
}

// Calls use(block, begin, end) for the runs of elements that share a scale, row after row.
template <typename Use>
void for_blocks(int64_t rows, int64_t columns, int64_t block_columns, const Use& use) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t c = 0; c < columns; c += block_columns) {
      use(static_cast<size_t>(c / block_columns), row * columns + c,
          row * columns + std::min(columns, c + block_columns));
    }
  }
}

// The scale of each block of a row of blocks, in their stored dtype and as numbers.
void scale_blocks(const float* values, int64_t rows, int64_t columns, const BlockScales& base,
                  std::vector<float>& scales, std::vector<std::byte>& bytes) {
  scales.assign(static_cast<size_t>(base.cols), 0.0f);
  for_blocks(rows, columns, base.block_cols, [&](size_t block, int64_t begin, int64_t end) {
    float& largest = scales[block];
    for (int64_t i = begin; i < end; ++i) largest = std::max(largest, std::abs(values[i]));
  });
  for (float& scale : scales) scale = scale > 0 ? scale / kFp8Largest : 1.0f;
  const size_t at = bytes.size(), size = scales.size() * size_of(base.dtype);
  bytes.resize(at + size);
  auto* numbers = reinterpret_cast<std::byte*>(scales.data());
  convert_elements(numbers, DType::kF32, bytes.data() + at, base.dtype, base.cols);
  convert_elements(bytes.data() + at, base.dtype, numbers, DType::kF32, base.cols);
}

}  // namespace

FloatRows rows_of(const TrainedTensor& trained) {
  FloatRows rows = rows_like(trained.name, trained.shape);
  rows.read = [&trained](int64_t row, int64_t count, float* into) {
    auto* bytes = reinterpret_cast<std::byte*>(into);
    if (trained.dtype == DType::kF32) {
      trained.read(trained.rows(row, count, bytes));
      return;
    }
    ShardedTensor slice = trained.rows(row, count, nullptr);
    std::vector<std::byte> stored(slice.num_bytes());
    slice.data = stored.data();
    trained.read(slice);
    convert_elements(stored.data(), trained.dtype, bytes, DType::kF32, slice.num_elements());
  };
  return rows;
}

FloatRows rows_of(const ModelDirectory& base, const TensorEntry& tensor) {
  FloatRows rows = rows_like(tensor.name, tensor.shape);
  rows.read = [&base, &tensor](int64_t row, int64_t count, float* into) {
    base.load(tensor, {.name = tensor.name,
                       .dtype = DType::kF32,
                       .global_shape = tensor.shape,
                       .row_begin = row,
                       .row_count = count,
                       .data = reinterpret_cast<std::byte*>(into)});
  };
  return rows;
}

std::vector<std::byte> requantize_fp8(const FloatRows& values, const BlockScales& base,
                                      const QuantizedSink& sink) {
  const int64_t columns = values.columns, at_once = std::min(base.block_rows, values.rows);
  std::vector<float> wanted(static_cast<size_t>(at_once * columns)), stored(wanted.size());
  std::vector<float> scales;
  std::vector<std::byte> elements(wanted.size()), bytes;
  for (int64_t row = 0; row < values.rows; row += at_once) {
    const int64_t rows = std::min(at_once, values.rows - row);
    values.read(row, rows, wanted.data());
    require_finite(values, wanted.data(), rows * columns);
    scale_blocks(wanted.data(), rows, columns, base, scales, bytes);
    for_blocks(rows, columns, base.block_cols, [&](size_t block, int64_t begin, int64_t end) {
      const float scale = scales[block];
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        const uint8_t code = fp8_e4m3_bits(wanted[i] / scale);
        elements[i] = static_cast<std::byte>(code);
        stored[i] = fp8_e4m3_value(code) * scale;
      }
    });
    sink({row, rows, elements.data(), wanted.data(), stored.data()});
  }
  return bytes;
}

std::vector<std::byte> requantize_mxfp4(const FloatRows& values, const QuantizedSink& sink) {
  const int64_t columns = values.columns, groups = columns / kMxfp4Group;
  SUTOR_ASSERT(columns % kMxfp4Group == 0 && columns > 0);
  const int64_t at_once = std::clamp(kChunkElements / columns, int64_t{1}, values.rows);
  std::vector<float> wanted(static_cast<size_t>(at_once * columns)), stored(wanted.size());
  std::vector<std::byte> blocks(wanted.size() / 2);
  std::vector<std::byte> scales(static_cast<size_t>(values.rows * groups));
  for (int64_t row = 0; row < values.rows; row += at_once) {
    const int64_t rows = std::min(at_once, values.rows - row);
    values.read(row, rows, wanted.data());
    require_finite(values, wanted.data(), rows * columns);
    std::byte* const of_rows = scales.data() + row * groups;
    for (int64_t group = 0; group < rows * groups; ++group) {
      of_rows[group] = quantize_mxfp4_group(wanted.data() + group * kMxfp4Group,
                                            blocks.data() + group * kMxfp4GroupBytes);
    }
    dequantize_mxfp4(blocks.data(), of_rows, rows * groups, stored.data());
    sink({row, rows, blocks.data(), wanted.data(), stored.data()});
  }
  return scales;
}

void RoundingSums::add(const RoundingSums& other) {
  error += other.error;
  values += other.values;
  update += other.update;
  base += other.base;
}

double RoundingSums::relative_error() const { return values > 0 ? std::sqrt(error / values) : 0; }

double RoundingSums::relative_update() const { return base > 0 ? std::sqrt(update / base) : 0; }

}  // namespace sutor
