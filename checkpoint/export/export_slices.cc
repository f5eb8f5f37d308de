#include "checkpoint/export/export_slices.h"

#include <algorithm>
#include <cstring>

#include "checkpoint/export/scatter.h"
#include "checkpoint/huggingface/quantized_source.h"
#include "csrc/base/error.h"
#include "csrc/base/parallel.h"

namespace sutor {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 18;

// Adds some rows: what was wanted, what is stored, and what the base has (null: not asked for).
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

// Whole packed rows, or their scales, which follow each other in `bytes`.
void put_packed(const TensorInSlice& tensor, int64_t row_bytes, int64_t row, int64_t count,
                const std::byte* bytes, std::byte* slice) {
  for (int64_t r = 0; r < count; ++r) {
    std::memcpy(slice + tensor.origin + (row + r) * tensor.row_stride, bytes + r * row_bytes,
                static_cast<size_t>(row_bytes));
  }
}

}  // namespace

SliceBuilder::SliceBuilder(const ModelDirectory& base, const std::vector<TrainedTensor>& trained)
    : base_(base) {
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
  if (slice.is_one_tensor() || slice.form == SliceForm::kFp8) {
    make_single_tensor(slice, sink);
    return;
  }
  std::vector<std::byte> bytes(static_cast<size_t>(slice.bytes()));
  if (slice.over_base) file.read_at(entry.begin + slice.begin, bytes);
  parallel_tasks(0, static_cast<int64_t>(slice.tensors.size()), [&](int64_t i) {
    make_tensor(slice, slice.tensors[static_cast<size_t>(i)], bytes);
  });
  sink(bytes);
}

// A piece that is one tensor's elements, row after row.
void SliceBuilder::make_single_tensor(const OutputSlice& slice, const ByteSink& sink) {
  const TensorInSlice& tensor = slice.tensors[0];
  const bool fp8 = slice.form == SliceForm::kFp8;
  const int64_t element = fp8 ? 1 : static_cast<int64_t>(size_of(slice.dtype));
  const int64_t row_bytes = tensor.base.columns * element;
  const RowBytes to = [&](int64_t, int64_t count, const std::byte* bytes) {
    sink({bytes, static_cast<size_t>(count * row_bytes)});
  };
  if (fp8) {
    requantize(tensor, to, nullptr);
  } else {
    make_elements(slice, tensor, to);
  }
}

// What one tensor has in a piece; `bytes`: the piece's.
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
  std::vector<std::byte> scales;
  requantize(tensor, {}, &scales);
  if (slice.form == SliceForm::kFp8Scales) {
    SUTOR_ASSERT(scales.size() == bytes.size());
    bytes = std::move(scales);
  } else {
    put_packed(tensor, tensor.base.columns / kMxfp4Group, 0, tensor.base.rows, scales.data(),
               bytes.data());
  }
}

// Rows of the tensor in the piece's dtype, some at a time.
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

// With `scales` only those are wanted, and nothing is recorded.
void SliceBuilder::requantize(const TensorInSlice& tensor, const RowBytes& elements,
                              std::vector<std::byte>* scales) {
  const FloatRows base = rows_of(base_, *tensor.entry);
  const FloatRows from = rows_of(*trained_.at(tensor.entry->name));
  const bool fp8 = tensor.base.encoding == Encoding::kFp8Blocks;
  const int64_t row_bytes = fp8 ? from.columns : from.columns / 2;
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
  std::vector<std::byte> made =
      fp8 ? requantize_fp8(from, read_scales(tensor.base, *tensor.entry, base_.config()), sink)
          : requantize_mxfp4(from, sink);
  if (scales) {
    *scales = std::move(made);
    return;
  }
  hasher.update(made);
  record(tensor.entry->name, {hasher.digest(), sums});
}

void SliceBuilder::record(const std::string& name, TensorRecord record) {
  const std::lock_guard lock(mutex_);
  records_[name] = std::move(record);
}

}  // namespace sutor
