#include "checkpoint/export_pieces.h"

#include <algorithm>
#include <cstring>

#include "checkpoint/quantized_source.h"
#include "checkpoint/scatter.h"
#include "csrc/base/error.h"
#include "csrc/base/parallel.h"

namespace sutor {
namespace {

constexpr int64_t kPieceElements = int64_t{1} << 18;

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
void put_packed(const PlacedTensor& tensor, int64_t row_bytes, int64_t row, int64_t count,
                const std::byte* bytes, std::byte* piece) {
  for (int64_t r = 0; r < count; ++r) {
    std::memcpy(piece + tensor.origin + (row + r) * tensor.row_stride, bytes + r * row_bytes,
                static_cast<size_t>(row_bytes));
  }
}

}  // namespace

PieceMaker::PieceMaker(const ModelDirectory& base, const std::vector<TrainedTensor>& trained)
    : base_(base) {
  for (const TrainedTensor& tensor : trained) {
    const bool fresh = trained_.emplace(tensor.name, &tensor).second;
    SUTOR_ASSERT(fresh);
  }
}

void PieceMaker::make(const OutputTensor& tensor, const OutputPiece& piece, const ByteSink& sink) {
  const SafetensorsEntry& entry = *tensor.base.entry;
  const ModelShard& file = *tensor.base.file;
  if (piece.form == PieceForm::kCopied) {
    file.stream(entry.begin + piece.begin, entry.begin + piece.end, sink);
    return;
  }
  const auto element = static_cast<int64_t>(size_of(piece.dtype));
  if (piece.is_one_tensor()) {
    const int64_t row_bytes = piece.tensors[0].base.columns * element;
    make_elements(piece, piece.tensors[0], [&](int64_t, int64_t count, const std::byte* bytes) {
      sink({bytes, static_cast<size_t>(count * row_bytes)});
    });
    return;
  }
  if (piece.form == PieceForm::kFp8) {
    const int64_t row_bytes = piece.tensors[0].base.columns;
    requantize(
        piece.tensors[0],
        [&](int64_t, int64_t count, const std::byte* bytes) {
          sink({bytes, static_cast<size_t>(count * row_bytes)});
        },
        nullptr);
    return;
  }
  std::vector<std::byte> bytes(static_cast<size_t>(piece.bytes()));
  if (piece.over_base) file.read_at(entry.begin + piece.begin, bytes);
  parallel_tasks(0, static_cast<int64_t>(piece.tensors.size()), [&](int64_t i) {
    const PlacedTensor& placed = piece.tensors[static_cast<size_t>(i)];
    if (piece.form == PieceForm::kElements) {
      make_elements(piece, placed, [&](int64_t row, int64_t count, const std::byte* from) {
        scatter_rows(from, count, placed.base.columns, element,
                     bytes.data() + placed.origin + row * placed.row_stride, placed.row_stride,
                     placed.col_stride);
      });
    } else if (piece.form == PieceForm::kMxfp4) {
      requantize(
          placed,
          [&](int64_t row, int64_t count, const std::byte* from) {
            put_packed(placed, placed.base.columns / 2, row, count, from, bytes.data());
          },
          nullptr);
    } else {
      std::vector<std::byte> scales;
      requantize(placed, {}, &scales);
      if (piece.form == PieceForm::kFp8Scales) {
        SUTOR_ASSERT(scales.size() == bytes.size());
        bytes = std::move(scales);
      } else {
        put_packed(placed, placed.base.columns / kMxfp4Group, 0, placed.base.rows, scales.data(),
                   bytes.data());
      }
    }
  });
  sink(bytes);
}

// Rows of the tensor in the piece's dtype, some at a time.
void PieceMaker::make_elements(const OutputPiece& piece, const PlacedTensor& tensor,
                               const RowBytes& to) {
  const FloatRows base = rows_of(base_, *tensor.entry);
  const FloatRows from = tensor.trained ? rows_of(*trained_.at(tensor.entry->name)) : base;
  const bool measured = tensor.trained && tensor.base.encoding != Encoding::kPlain;
  const auto element = static_cast<int64_t>(size_of(piece.dtype));
  if (from.rows * from.columns == 0) return;
  const int64_t at_once = std::clamp(kPieceElements / from.columns, int64_t{1}, from.rows);
  std::vector<float> wanted(static_cast<size_t>(at_once * from.columns)), stored, before;
  std::vector<std::byte> bytes(wanted.size() * size_of(piece.dtype));
  Hasher hasher;
  TensorRecord made;
  if (measured) made.rounding.emplace();
  for (int64_t row = 0; row < from.rows; row += at_once) {
    const int64_t count = std::min(at_once, from.rows - row), elements = count * from.columns;
    from.read(row, count, wanted.data());
    convert_elements(reinterpret_cast<const std::byte*>(wanted.data()), DType::kF32, bytes.data(),
                     piece.dtype, elements);
    if (tensor.trained) hasher.update({bytes.data(), static_cast<size_t>(elements * element)});
    if (measured) {
      stored.resize(wanted.size());
      before.resize(wanted.size());
      convert_elements(bytes.data(), piece.dtype, reinterpret_cast<std::byte*>(stored.data()),
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
void PieceMaker::requantize(const PlacedTensor& tensor, const RowBytes& elements,
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

void PieceMaker::record(const std::string& name, TensorRecord record) {
  const std::lock_guard lock(mutex_);
  records_[name] = std::move(record);
}

}  // namespace sutor
