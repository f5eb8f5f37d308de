#include "checkpoint/export/export_slices.h"

#include <algorithm>
#include <cstring>

#include "csrc/base/error.h"

namespace sutor {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 18;

// Adds some rows to the sums: the wanted values, the stored ones, and the base's.
void add_rows(RoundingSums& sums, const float* wanted, const float* stored, const float* base,
              int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const double value = wanted[i], error = stored[i] - value, update = value - base[i];
    sums.error += error * error;
    sums.values += value * value;
    sums.update += update * update;
    sums.base += static_cast<double>(base[i]) * base[i];
  }
}

// Copies whole packed rows, or their scales, from contiguous `bytes` into the slice.
void put_packed(const TensorInSlice& tensor, int64_t row_bytes, int64_t row, int64_t count,
                const std::byte* bytes, std::byte* slice) {
  for (int64_t r = 0; r < count; ++r) {
    std::memcpy(slice + tensor.origin + (row + r) * tensor.row_stride, bytes + r * row_bytes,
                static_cast<size_t>(row_bytes));
  }
}

template <typename Bits>
void scatter(const std::byte* from, int64_t rows, int64_t columns, std::byte* to,
             int64_t row_stride, int64_t col_stride) {
  constexpr int64_t kTile = 32;  // rows, which lie side by side in a transposed matrix
  for (int64_t tile = 0; tile < rows; tile += kTile) {
    const int64_t stop = std::min(rows, tile + kTile);
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t r = tile; r < stop; ++r) {
        std::memcpy(to + r * row_stride + c * col_stride,
                    from + (r * columns + c) * static_cast<int64_t>(sizeof(Bits)), sizeof(Bits));
      }
    }
  }
}

// `from`: rows x columns elements of `element` bytes (2 or 4), row after row. Row r goes to `to` +
// r * row_stride, its element c another c * col_stride bytes further on.
void scatter_rows(const std::byte* from, int64_t rows, int64_t columns, int64_t element,
                  std::byte* to, int64_t row_stride, int64_t col_stride) {
  if (col_stride == element) {
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(to + r * row_stride, from + r * columns * element,
                  static_cast<size_t>(columns * element));
    }
    return;
  }
  SUTOR_ASSERT(element == 2 || element == 4);
  const auto put = element == 2 ? scatter<uint16_t> : scatter<uint32_t>;
  put(from, rows, columns, to, row_stride, col_stride);
}

}  // namespace

SliceBuilder::SliceBuilder(const ModelDirectory& base, const std::vector<TrainedTensor>& trained,
                           ThreadTeam& team)
    : base_(base), team_(team) {
  for (const TrainedTensor& tensor : trained) {
    const bool fresh = trained_.emplace(tensor.name, &tensor).second;
    SUTOR_ASSERT(fresh);
  }
}

void SliceBuilder::make(const OutputTensor& tensor, const OutputSlice& slice,
                        const ByteSink& sink) {
  const SafetensorsEntry& entry = *tensor.base.entry;
  const ModelShard& file = *tensor.base.file;
  if (slice.form == SliceForm::kCopied) {
    file.stream(entry.begin + slice.begin, entry.begin + slice.end, sink);
    return;
  }
  if (slice.is_one_tensor() || slice.form == SliceForm::kCodes) {
    make_single_tensor(slice, sink);
    return;
  }
  std::vector<std::byte> bytes(static_cast<size_t>(slice.bytes()));
  if (slice.over_base) file.read_at(entry.begin + slice.begin, bytes);
  team_.run(/*at_once=*/0, static_cast<int64_t>(slice.tensors.size()),
            [&](int64_t i) { make_tensor(slice, slice.tensors[static_cast<size_t>(i)], bytes); });
  sink(bytes);
}

// A slice that consists of one tensor's elements, row after row.
void SliceBuilder::make_single_tensor(const OutputSlice& slice, const ByteSink& sink) {
  const TensorInSlice& tensor = slice.tensors[0];
  const bool codes = slice.form == SliceForm::kCodes;
  const auto element = static_cast<int64_t>(size_of(slice.dtype));
  const int64_t row_bytes = codes ? tensor.base.row_stride : tensor.base.columns * element;
  const RowBytes to = [&](int64_t, int64_t count, const std::byte* bytes) {
    sink({bytes, static_cast<size_t>(count * row_bytes)});
  };
  if (codes) {
    requantize(tensor, to, nullptr);
  } else {
    make_elements(slice, tensor, to);
  }
}

// Writes one tensor into `bytes`, the bytes of the slice.
void SliceBuilder::make_tensor(const OutputSlice& slice, const TensorInSlice& tensor,
                               std::vector<std::byte>& bytes) {
  if (slice.form == SliceForm::kElements) {
    const auto element = static_cast<int64_t>(size_of(slice.dtype));
    make_elements(slice, tensor, [&](int64_t row, int64_t count, const std::byte* from) {
      scatter_rows(from, count, tensor.base.columns, element,
                   bytes.data() + tensor.origin + row * tensor.row_stride, tensor.row_stride,
                   tensor.col_stride);
    });
    return;
  }
  if (slice.form == SliceForm::kMxfp4) {
    requantize(
        tensor,
        [&](int64_t row, int64_t count, const std::byte* from) {
          put_packed(tensor, tensor.base.columns / 2, row, count, from, bytes.data());
        },
        nullptr);
    return;
  }
  QuantizedScales made;
  requantize(tensor, {}, &made);
  if (slice.form == SliceForm::kMxfp4Scales) {
    put_packed(tensor, tensor.base.columns / kMxfp4Group, 0, tensor.base.rows, made.scales.data(),
               bytes.data());
    return;
  }
  std::vector<std::byte>& all = slice.form == SliceForm::kScales ? made.scales : made.zero_points;
  SUTOR_ASSERT(all.size() == bytes.size());
  bytes = std::move(all);
}

// Gives the tensor's rows in the slice's dtype, some at a time.
void SliceBuilder::make_elements(const OutputSlice& slice, const TensorInSlice& tensor,
                                 const RowBytes& to) {
  const FloatRows base = rows_of(base_, *tensor.entry);
  const FloatRows from = tensor.trained ? rows_of(*trained_.at(tensor.entry->name)) : base;
  const bool measured = tensor.trained && tensor.base.encoding != Encoding::kPlain;
  const auto element = static_cast<int64_t>(size_of(slice.dtype));
  if (from.rows * from.columns == 0) return;
  const int64_t at_once = std::clamp(kChunkElements / from.columns, int64_t{1}, from.rows);
  std::vector<float> wanted(static_cast<size_t>(at_once * from.columns)), stored, before;
  std::vector<std::byte> bytes(wanted.size() * size_of(slice.dtype));
  Hasher hasher;
  TensorRecord made;
  if (measured) made.rounding.emplace();
  for (int64_t row = 0; row < from.rows; row += at_once) {
    const int64_t count = std::min(at_once, from.rows - row), elements = count * from.columns;
    from.read(row, count, wanted.data());
    convert_elements(reinterpret_cast<const std::byte*>(wanted.data()), DType::kF32, bytes.data(),
                     slice.dtype, elements);
    if (tensor.trained) hasher.update({bytes.data(), static_cast<size_t>(elements * element)});
    if (measured) {
      stored.resize(wanted.size());
      before.resize(wanted.size());
      convert_elements(bytes.data(), slice.dtype, reinterpret_cast<std::byte*>(stored.data()),
                       DType::kF32, elements);
      base.read(row, count, before.data());
      add_rows(*made.rounding, wanted.data(), stored.data(), before.data(), elements);
    }
    to(row, count, bytes.data());
  }
  made.digest = hasher.digest();
  if (tensor.trained) record(tensor.entry->name, made);
}

// With `scales` it only makes those and records nothing.
void SliceBuilder::requantize(const TensorInSlice& tensor, const RowBytes& elements,
                              QuantizedScales* scales) {
  const FloatRows base = rows_of(base_, *tensor.entry);
  const FloatRows from = rows_of(*trained_.at(tensor.entry->name));
  const bool mxfp4 = tensor.base.encoding == Encoding::kMxfp4;
  const int64_t row_bytes = mxfp4 ? tensor.base.packed_row_bytes : tensor.base.row_stride;
  Hasher hasher;
  RoundingSums sums;
  std::vector<float> before;
  const auto sink = [&](const QuantizedRows& rows) {
    if (scales) return;
    hasher.update({rows.elements, static_cast<size_t>(rows.count * row_bytes)});
    before.resize(static_cast<size_t>(rows.count * from.columns));
    base.read(rows.row, rows.count, before.data());
    add_rows(sums, rows.wanted, rows.stored, before.data(), rows.count * from.columns);
    elements(rows.row, rows.count, rows.elements);
  };
  QuantizedScales made =
      mxfp4 ? requantize_mxfp4(from, sink)
            : requantize_matrix(from, quantized_form(tensor.base, *tensor.entry, base_), sink);
  if (scales) {
    *scales = std::move(made);
    return;
  }
  hasher.update(made.scales);
  hasher.update(made.zero_points);
  record(tensor.entry->name, {hasher.digest(), sums});
}

void SliceBuilder::record(const std::string& name, TensorRecord record) {
  const std::lock_guard lock(mutex_);
  records_[name] = std::move(record);
}

}  // namespace sutor
