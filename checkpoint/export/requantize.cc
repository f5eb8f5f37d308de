#include "checkpoint/export/requantize.h"

#include <algorithm>
#include <cmath>

#include "csrc/base/error.h"

namespace sutor {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 18;
constexpr int64_t kMostElements = int64_t{1} << 22;  // of a block that is kept in memory

// Without read(), which the caller sets.
FloatRows rows_like(const std::string& name, const std::vector<int64_t>& shape) {
  return {.name = name,
          .rows = shape.empty() ? 1 : shape[0],
          .columns = ShardedTensor{.global_shape = shape}.row_elements(),
          .read = {}};
}

void require_finite(const FloatRows& values, const float* from, int64_t count) {
  if (std::all_of(from, from + count, [](float value) { return std::isfinite(value); })) return;
  fail(ErrorCode::kNotQuantizable,
       "`{}` has a trained value that is not finite: it cannot be quantised", values.name);
}

void add_extremes(const float* values, int64_t row, int64_t rows, int64_t columns,
                  const BlockScales& grid, Extremes& extremes) {
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t first = ((row + r) / grid.block_rows - grid.row_begin) * grid.cols;
    const float* const of_row = values + r * columns;
    for_runs(grid, 0, columns, [&](int64_t block, int64_t begin, int64_t end) {
      float& least = extremes.least[static_cast<size_t>(first + block)];
      float& most = extremes.most[static_cast<size_t>(first + block)];
      for (int64_t c = begin; c < end; ++c) {
        least = std::min(least, of_row[c]);
        most = std::max(most, of_row[c]);
      }
    });
  }
}

// Quantises one row into `elements`, and gives what it then stands for.
void quantize_row(const QuantizedForm& form, const BlockScales& scales, int64_t row,
                  int64_t columns, const float* wanted, std::byte* elements, float* stored) {
  const auto half = static_cast<float>(1 << (form.bits - 1));
  const float* const scale_row = scales.row(row);
  const int8_t* const zeros = scales.zero_row(row);
  for_runs(scales, 0, columns, [&](int64_t block, int64_t begin, int64_t end) {
    const float scale = scale_row[block];
    const float zero = zeros ? static_cast<float>(zeros[block]) : 0.0f;
    for (int64_t c = begin; c < end; ++c) {
      const float value = wanted[c] / scale;
      if (form.encoding == Encoding::kFp8) {
        elements[c] = static_cast<std::byte>(fp8_e4m3_bits(value));
      } else {
        stored[c] = std::nearbyint(std::clamp(value + zero, -half, half - 1));
      }
    }
  });
  if (form.encoding == Encoding::kFp8) {
    decode_fp8(elements, columns, stored);
  } else if (form.encoding == Encoding::kPackedInts) {
    encode_packed(stored, form.bits, columns, elements);
  } else {
    for (int64_t c = 0; c < columns; ++c) {
      elements[c] = static_cast<std::byte>(static_cast<int8_t>(stored[c]));
    }
  }
  apply_scales(scales, row, 0, columns, stored);
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

QuantizedScales requantize_matrix(const FloatRows& values, const QuantizedForm& form,
                                  const QuantizedSink& sink) {
  const int64_t columns = values.columns, block_rows = form.base.block_rows;
  // Rows of blocks at once, and rows of which the values are in memory.
  const int64_t span_rows =
      block_rows * std::max<int64_t>(1, kChunkElements / (block_rows * columns));
  const int64_t at_once =
      std::min({span_rows, std::max<int64_t>(1, kMostElements / columns), values.rows});
  std::vector<float> wanted(static_cast<size_t>(at_once * columns)), stored(wanted.size());
  std::vector<std::byte> elements(static_cast<size_t>(at_once * form.row_bytes));
  QuantizedScales result;
  std::vector<int8_t> zero_points;
  for (int64_t begin = 0; begin < values.rows; begin += span_rows) {
    const int64_t end = std::min(values.rows, begin + span_rows);
    const bool in_memory = end - begin <= at_once;
    const auto for_chunks = [&](const auto& use) {
      for (int64_t row = begin; row < end; row += at_once) use(row, std::min(at_once, end - row));
    };
    BlockScales made = form.base;
    made.row_begin = begin / block_rows;
    Extremes extremes(
        static_cast<size_t>(((end - begin + block_rows - 1) / block_rows) * made.cols));
    for_chunks([&](int64_t row, int64_t rows) {
      values.read(row, rows, wanted.data());
      require_finite(values, wanted.data(), rows * columns);
      add_extremes(wanted.data(), row, rows, columns, made, extremes);
    });
    set_scales(form, extremes, made, result.scales);
    zero_points.insert(zero_points.end(), made.zero_points.begin(), made.zero_points.end());
    for_chunks([&](int64_t row, int64_t rows) {
      if (!in_memory) values.read(row, rows, wanted.data());
      for (int64_t r = 0; r < rows; ++r) {
        quantize_row(form, made, row + r, columns, wanted.data() + r * columns,
                     elements.data() + r * form.row_bytes, stored.data() + r * columns);
      }
      sink({row, rows, elements.data(), wanted.data(), stored.data()});
    });
  }
  if (form.zero_points) result.zero_points = stored_zero_points(form, zero_points);
  return result;
}

QuantizedScales requantize_mxfp4(const FloatRows& values, const QuantizedSink& sink) {
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
  return {std::move(scales), {}};
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
