#include "checkpoint/huggingface/resolved_source.h"

#include "csrc/base/error.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace {

int64_t elements_of(const std::vector<int64_t>& shape, size_t first_axis) {
  int64_t count = 1;
  for (size_t axis = first_axis; axis < shape.size(); ++axis) count *= shape[axis];
  return count;
}

// The stored matrix that has a model tensor's rows as rows or as columns.
struct DiskMatrix {
  int64_t number = 0;  // of the matrix in the stored tensor
  int64_t rows = 0, columns = 0;
};

DiskMatrix disk_matrix(const TensorEntry& tensor, const DiskSource& source) {
  const std::vector<int64_t>& shape = source.disk_shape.empty() ? tensor.shape : source.disk_shape;
  const bool sliced = source.index >= 0;
  SUTOR_ASSERT(!sliced || source.index < shape[0]);
  const std::vector<int64_t> slice(shape.begin() + (sliced ? 1 : 0), shape.end());
  return {sliced ? source.index : 0, slice.empty() ? 1 : slice[0], elements_of(slice, 1)};
}

void expect_shape(const ResolvedSource& found, const std::vector<int64_t>& expected) {
  const SafetensorsEntry& entry = *found.stored.entry;
  if (entry.shape == expected) return;
  fail(ErrorCode::kWrongShape,
       "{}: tensor `{}` has shape {}, but config.json asks for {}. Are these the weights of this "
       "config.json?",
       found.stored.file->where(), entry.name, shape_text(entry.shape), shape_text(expected));
}

// For elements of whole bytes, in rows or in columns.
void locate_elements(const TensorEntry& tensor, ResolvedSource& found) {
  const DiskSource& source = *found.source;
  expect_shape(found, source.disk_shape.empty() ? tensor.shape : source.disk_shape);
  const SafetensorsEntry& entry = *found.stored.entry;
  const int64_t elements = entry.num_elements();
  found.element_bytes = elements == 0 ? 0 : entry.num_bytes() / elements;
  const ElementLayout layout = element_layout(tensor, source, found.element_bytes);
  found.row_stride = layout.row_stride;
  found.col_stride = layout.col_stride;
  found.origin = entry.begin + layout.origin;
  found.matrix_begin = entry.begin + layout.matrix_begin;
  found.matrix_bytes = layout.matrix_bytes;
}

// For elements of `bits` bits in words of a row.
void locate_packed(const TensorEntry& tensor, ResolvedSource& found) {
  const SafetensorsEntry& entry = *found.stored.entry;
  if (entry.dtype != DType::kI32) {
    fail(ErrorCode::kBadStoredDType,
         "{}: tensor `{}` is {}, but integers are packed in I32. sutor does not read NVFP4 and "
         "MXFP4 "
         "as compressed-tensors packs them: save the model dequantised in BF16 with that library.",
         found.stored.file->where(), entry.name, entry.dtype_name);
  }
  const auto words = [&](int bits) { return (found.columns * bits + 31) / 32; };
  const auto fits = [&](int bits) {
    return tensor.shape.size() == 2 &&
           entry.shape == std::vector<int64_t>{tensor.shape[0], words(bits)};
  };
  // Few columns may fit several widths; then what config.json says counts.
  for (const int bits : {4, 8, 2}) {
    if (found.bits == 0 || !fits(found.bits)) found.bits = fits(bits) ? bits : found.bits;
  }
  if (found.bits == 0 || !fits(found.bits)) {
    fail(ErrorCode::kWrongShape,
         "{}: tensor `{}` has shape {}, but a matrix {} packed in four bits has [{}, {}], in eight "
         "bits [{}, {}]",
         found.stored.file->where(), entry.name, shape_text(entry.shape), shape_text(tensor.shape),
         found.rows, words(4), found.rows, words(8));
  }
  found.origin = entry.begin;
  found.row_stride = found.packed_row_bytes = words(found.bits) * 4;
  found.matrix_begin = entry.begin;
  found.matrix_bytes = entry.num_bytes();
}

// For rows of groups, never transposed: a transposed source describes only the plain form.
void locate_mxfp4(const TensorEntry& tensor, ResolvedSource& found) {
  const DiskSource& source = *found.source;
  const SafetensorsEntry& entry = *found.stored.entry;
  const DiskMatrix disk = disk_matrix(tensor, source);
  const int64_t rows = source.transposed ? disk.columns : disk.rows;
  const int64_t groups = found.columns / kMxfp4Group;
  std::vector<int64_t> expected = {rows, groups, kMxfp4GroupBytes};
  if (source.index >= 0) expected.insert(expected.begin(), source.disk_shape[0]);
  if (tensor.shape.size() != 2 || found.columns % kMxfp4Group != 0 || entry.dtype != DType::kU8) {
    fail(ErrorCode::kWrongShape,
         "{}: tensor `{}` is {} {}, but a matrix {} in MXFP4 is U8 {}, with a multiple of {} "
         "columns",
         found.stored.file->where(), entry.name, entry.dtype_name, shape_text(entry.shape),
         shape_text(tensor.shape), shape_text(expected), kMxfp4Group);
  }
  expect_shape(found, expected);
  SUTOR_ASSERT(source.row_begin + (found.rows - 1) * source.row_step < rows);
  const int64_t line = groups * kMxfp4GroupBytes;
  found.row_stride = source.row_step * line;
  found.packed_row_bytes = line;
  found.matrix_begin = entry.begin + disk.number * rows * line;
  found.matrix_bytes = rows * line;
  found.origin = found.matrix_begin + source.row_begin * line;
}

}  // namespace

ElementLayout element_layout(const TensorEntry& tensor, const DiskSource& source,
                             int64_t element_bytes) {
  const DiskMatrix disk = disk_matrix(tensor, source);
  const bool turned = source.transposed;
  const int64_t rows = tensor.shape.empty() ? 1 : tensor.shape[0];
  SUTOR_ASSERT(elements_of(tensor.shape, 1) == (turned ? disk.rows : disk.columns));
  SUTOR_ASSERT(source.row_step > 0 && source.row_begin + (rows - 1) * source.row_step <
                                          (turned ? disk.columns : disk.rows));
  const int64_t line = disk.columns * element_bytes, row = turned ? element_bytes : line;
  ElementLayout layout;
  layout.matrix_bytes = disk.rows * line;
  layout.matrix_begin = disk.number * layout.matrix_bytes;
  layout.row_stride = source.row_step * row;
  layout.col_stride = turned ? line : element_bytes;
  layout.origin = layout.matrix_begin + source.row_begin * row;
  return layout;
}

bool ResolvedSource::contiguous() const {
  return encoding == Encoding::kPlain && col_stride == element_bytes &&
         (rows <= 1 || row_stride == columns * element_bytes);
}

int64_t ResolvedSource::begin() const {
  SUTOR_ASSERT(contiguous());
  return origin;
}

int64_t ResolvedSource::end() const {
  SUTOR_ASSERT(contiguous());
  return origin + rows * columns * element_bytes;
}

StridedRanges ResolvedSource::ranges(int64_t row_begin, int64_t row_count, int64_t col_begin,
                                     int64_t col_count) const {
  const int64_t first = origin + row_begin * row_stride + col_begin * col_stride;
  if (transposed()) {
    const int64_t span = row_count > 0 ? (row_count - 1) * row_stride + element_bytes : 0;
    return {.begin = first, .bytes = span, .stride = col_stride, .count = col_count};
  }
  const int64_t bytes = element_bytes > 0 ? col_count * element_bytes : packed_row_bytes;
  return {.begin = first, .bytes = bytes, .stride = row_stride, .count = row_count};
}

ResolvedSource ResolvedSource::moved_to(const StoredTensor& other) const {
  SUTOR_ASSERT(encoding == Encoding::kPlain && other.entry->shape == stored.entry->shape &&
               other.entry->dtype_name == stored.entry->dtype_name);
  ResolvedSource moved = *this;
  moved.stored = other;
  const int64_t shift = other.entry->begin - stored.entry->begin;
  moved.origin += shift;
  moved.matrix_begin += shift;
  return moved;
}

StridedRanges ResolvedSource::scale_ranges(int64_t row_begin, int64_t row_count) const {
  SUTOR_ASSERT(encoding == Encoding::kMxfp4);
  const int64_t first = origin + row_begin * row_stride - stored.entry->begin;
  return {.begin = scales->entry->begin + first / kMxfp4GroupBytes,
          .bytes = columns / kMxfp4Group,
          .stride = row_stride / kMxfp4GroupBytes,
          .count = row_count};
}

void locate(const TensorEntry& tensor, ResolvedSource& found) {
  found.rows = tensor.shape.empty() ? 1 : tensor.shape[0];
  found.columns = elements_of(tensor.shape, 1);
  if (found.encoding == Encoding::kPackedInts) {
    locate_packed(tensor, found);
  } else if (found.encoding == Encoding::kMxfp4) {
    locate_mxfp4(tensor, found);
  } else {
    locate_elements(tensor, found);
  }
}

DType computable(const StoredTensor& stored) {
  const std::optional<DType> dtype = stored.entry->dtype;
  if (dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16) return *dtype;
  fail(ErrorCode::kBadStoredDType,
       "{}: tensor `{}` is {}; sutor computes with F32, BF16 and F16 weights, and reads F8_E4M3, "
       "I8, MXFP4 and packed integer matrices with their scales. Convert the checkpoint to one of "
       "these first.",
       stored.file->where(), stored.entry->name, stored.entry->dtype_name);
}

}  // namespace sutor
