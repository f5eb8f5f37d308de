// Where on disk a model tensor lies: which stored tensor holds it, in which encoding, and where its
// rows and columns are in that one.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/huggingface/model_shard.h"
#include "checkpoint/huggingface/quantized.h"
#include "parallel_state/model/sharded_tensor.h"
#include "parallel_state/model/tensor_map.h"

namespace sutor {

// A stored tensor, where it lies.
struct StoredTensor {
  size_t shard = 0;  // number in ModelDirectory::shards()
  const ModelShard* file = nullptr;
  const SafetensorsEntry* entry = nullptr;
};

// The part of a stored tensor that supplies a model tensor.
struct ResolvedSource {
  const DiskSource* source = nullptr;
  StoredTensor stored;
  Encoding encoding = Encoding::kPlain;
  std::optional<StoredTensor> scales{};  // of the other encodings

  // Row r of the model tensor begins at byte `origin + r * row_stride` of the shard, its element c
  // `c * col_stride` bytes further on. Packed encodings (INT4, MXFP4) hold whole rows, in which
  // elements share bytes: their col_stride is 0.
  int64_t origin = 0;
  int64_t row_stride = 0;
  int64_t col_stride = 0;
  int64_t rows = 0, columns = 0;  // of the model tensor, all axes but the first flattened
  int64_t element_bytes = 0;      // 0: packed
  // Bytes of the stored matrix that holds it, perhaps among others.
  int64_t matrix_begin = 0, matrix_bytes = 0;

  bool transposed() const { return source->transposed && encoding == Encoding::kPlain; }
  // Whether bytes [begin(), end()) of the shard are the model tensor in the stored dtype, row after
  // row, and nothing else. Not so of interleaved, transposed and quantised ones: their bytes are to
  // be had through strips(), stored_bytes.h or ModelDirectory::load().
  bool contiguous() const;
  // Of contiguous ones only; an internal error else.
  int64_t begin() const;
  int64_t end() const;
  // A piece of a plain or FP8 one that is not transposed, or of a transposed one by its columns:
  // one strip a row (column) of the piece. Packed: whole rows, whatever the piece's columns.
  StridedRanges ranges(int64_t row_begin, int64_t row_count, int64_t col_begin,
                       int64_t col_count) const;
  // MXFP4: the scales of whole rows.
  StridedRanges scale_ranges(int64_t row_begin, int64_t row_count) const;
};

// Where elements of `element_bytes` lie in a stored tensor of the source's plain form, from its
// first byte on.
struct ElementLayout {
  int64_t origin = 0, row_stride = 0, col_stride = 0;  // as in ResolvedSource
  int64_t matrix_begin = 0, matrix_bytes = 0;
};
ElementLayout element_layout(const TensorEntry& tensor, const DiskSource& source,
                             int64_t element_bytes);

// Fills the places of `found`, whose source, stored tensor, encoding and scales are set. Throws
// E0302 when the stored tensor has another shape than the source says.
void locate(const TensorEntry& tensor, ResolvedSource& found);

// The stored dtype of a plain one. Throws E0307 for one that sutor does not compute with.
DType computable(const StoredTensor& stored);

// "[2, 3]"
std::string shape_text(const std::vector<int64_t>& shape);

}  // namespace sutor
