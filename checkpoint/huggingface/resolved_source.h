// The location of a model tensor on disk: which stored tensor contains it, in which encoding, and
// where its rows and columns are in that tensor.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/huggingface/model_shard.h"
#include "checkpoint/quantized/quantized.h"
#include "parallel_state/model/sharded_tensor.h"
#include "parallel_state/model/tensor_map.h"

namespace sutor {

// A stored tensor and its file.
struct StoredTensor {
  size_t shard = 0;  // number in ModelDirectory::shards()
  const ModelShard* file = nullptr;
  const SafetensorsEntry* entry = nullptr;
};

// The slice of a stored tensor that supplies a model tensor.
struct ResolvedSource {
  const DiskSource* source = nullptr;
  StoredTensor stored;
  Encoding encoding = Encoding::kPlain;
  // For the other encodings; of integers perhaps also zero points, and the group of each column.
  std::optional<StoredTensor> scales{}, zero_points{}, column_order{};
  // Other stored tensors of the same quantised matrix that reading takes into account (its shape,
  // zero points, order of columns): all that nothing names here counts as unused, see tensor_fit.h.
  std::vector<StoredTensor> companions{};
  bool inverse_name = false;  // whether the scales are `<name>_scale_inv`
  int bits = 0;  // of an element of kPackedInts; before locate(): what config.json says

  // Row r of the model tensor begins at byte `origin + r * row_stride` of the shard, and its
  // element c is `c * col_stride` bytes further. Packed encodings (kPackedInts, kMxfp4) have whole
  // rows, in which elements share bytes: their col_stride is 0.
  int64_t origin = 0;
  int64_t row_stride = 0;
  int64_t col_stride = 0;
  int64_t rows = 0, columns = 0;  // of the model tensor, all axes but the first flattened
  int64_t element_bytes = 0;      // 0: packed
  int64_t packed_row_bytes = 0;   // of a whole row, if packed
  // The bytes of the stored matrix that contains it, possibly among others.
  int64_t matrix_begin = 0, matrix_bytes = 0;

  bool transposed() const { return source->transposed && encoding == Encoding::kPlain; }
  // Whether bytes [begin(), end()) of the shard are the model tensor in the stored dtype, row after
  // row, and nothing else. The bytes of interleaved, transposed and quantised tensors, which are
  // not, are read through ranges(), stored_bytes.h or ModelDirectory::load().
  bool contiguous() const;
  // For contiguous ones only; else an internal error.
  int64_t begin() const;
  int64_t end() const;
  // The ranges of a slice: for plain, FP8 and INT8 tensors one range per row, for transposed ones
  // per column; for packed ones whole rows, whatever the slice's columns.
  StridedRanges ranges(int64_t row_begin, int64_t row_count, int64_t col_begin,
                       int64_t col_count) const;
  // The same place in another stored tensor of this dtype and shape. Plain ones only.
  ResolvedSource moved_to(const StoredTensor& other) const;
  // For MXFP4: the ranges of the scales of whole rows.
  StridedRanges scale_ranges(int64_t row_begin, int64_t row_count) const;
};

// The layout of elements of `element_bytes` in a stored tensor of the source's plain form, with
// offsets from its first byte.
struct ElementLayout {
  int64_t origin = 0, row_stride = 0, col_stride = 0;  // as in ResolvedSource
  int64_t matrix_begin = 0, matrix_bytes = 0;
};
ElementLayout element_layout(const TensorEntry& tensor, const DiskSource& source,
                             int64_t element_bytes);

// Fills in the offsets and strides of `found`, whose source, stored tensor, encoding and scales are
// set. Throws E0302 when the stored tensor has another shape than the source expects, E0307 when it
// is packed in a form that sutor does not read.
void locate(const TensorEntry& tensor, ResolvedSource& found);

// The dtype of a plain stored tensor. Throws E0307 for one that sutor does not compute with.
DType computable(const StoredTensor& stored);

}  // namespace sutor
