#include "checkpoint/export/trained_tensor.h"

#include <algorithm>

#include "checkpoint/format/strided_ranges.h"
#include "checkpoint/huggingface/stored_bytes.h"
#include "csrc/base/error.h"
#include "csrc/base/parallel.h"

namespace sutor {

ShardedTensor TrainedTensor::rows(int64_t row_begin, int64_t row_count, std::byte* into) const {
  return {.name = name,
          .dtype = dtype,
          .global_shape = shape,
          .row_begin = row_begin,
          .row_count = row_count,
          .data = into};
}

TrainedTensor trained_tensor(const ShardedTensor& tensor) {
  const int64_t rows = tensor.global_shape.empty() ? 1 : tensor.global_shape[0];
  SUTOR_ASSERT(tensor.row_begin == 0 && tensor.row_count == rows && tensor.has_whole_rows());
  const std::byte* data = tensor.data;
  return {.name = tensor.name,
          .shape = tensor.global_shape,
          .dtype = tensor.dtype,
          .stored_dtype = tensor.dtype,
          .read = [data](const ShardedTensor& slice) {
            std::byte* to = slice.data;
            stream_ranges(
                ranges_of_slice(slice, slice.dtype), /*worth_skipping=*/0,
                [data](int64_t begin, int64_t end, const ByteSink& sink) {
                  sink({data + begin, static_cast<size_t>(end - begin)});
                },
                [&](std::span<const std::byte> bytes) {
                  to = std::copy(bytes.begin(), bytes.end(), to);
                });
          }};
}

void store_as_base(std::vector<TrainedTensor>& tensors, const ModelDirectory& base,
                   const TensorMap& model) {
  for (TrainedTensor& tensor : tensors) {
    const TensorEntry* entry = model.find(tensor.name);
    const auto found = entry ? base.resolve(*entry) : std::nullopt;
    if (!found) {
      fail(ErrorCode::kMissingTensor,
           "the base model {} has no tensor `{}`. Is it the model that was trained?",
           base.path().string(), tensor.name);
    }
    if (entry->shape != tensor.shape) {
      fail(ErrorCode::kWrongShape,
           "tensor `{}` was trained in shape [{}], but the base model {} has [{}]", tensor.name,
           fmt::join(tensor.shape, ", "), base.path().string(), fmt::join(entry->shape, ", "));
    }
    if (found->encoding != Encoding::kPlain) {
      tensor.stored_dtype = config_dtype(base.config());
      continue;
    }
    if (!found->stored.entry->dtype) {
      fail(ErrorCode::kBadStoredDType,
           "{}: tensor `{}` is {}, into which trained values cannot be converted",
           found->stored.file->where(), found->stored.entry->name, found->stored.entry->dtype_name);
    }
    tensor.stored_dtype = *found->stored.entry->dtype;
  }
}

void stream_converted(const TrainedTensor& tensor, DType dtype,
                      const std::function<void(std::span<const std::byte>)>& sink) {
  constexpr int64_t kChunkBytes = int64_t{1} << 20;
  int64_t row_elements = 1;
  for (size_t axis = 1; axis < tensor.shape.size(); ++axis) row_elements *= tensor.shape[axis];
  const int64_t rows = tensor.shape.empty() ? 1 : tensor.shape[0];
  if (rows * row_elements == 0) return;
  const auto from_bytes = row_elements * static_cast<int64_t>(size_of(tensor.dtype));
  const auto to_bytes = row_elements * static_cast<int64_t>(size_of(dtype));
  const int64_t chunk_rows = std::clamp(kChunkBytes / from_bytes, int64_t{1}, rows);
  std::vector<std::byte> from(static_cast<size_t>(chunk_rows * from_bytes));
  std::vector<std::byte> to(static_cast<size_t>(chunk_rows * to_bytes));
  for (int64_t row = 0; row < rows; row += chunk_rows) {
    const int64_t count = std::min(chunk_rows, rows - row);
    tensor.read(tensor.rows(row, count, from.data()));
    convert_elements(from.data(), tensor.dtype, to.data(), dtype, count * row_elements);
    sink(std::span<const std::byte>(to).first(static_cast<size_t>(count * to_bytes)));
  }
}

bool equals_base(const TrainedTensor& tensor, const ModelDirectory& base,
                 const TensorEntry& entry) {
  Hasher trained, original;
  stream_converted(tensor, tensor.stored_dtype,
                   [&](std::span<const std::byte> bytes) { trained.update(bytes); });
  stream_values(base, entry, tensor.stored_dtype,
                [&](std::span<const std::byte> bytes) { original.update(bytes); });
  return trained.digest() == original.digest();
}

std::map<std::string, Digest> stored_digests(const std::vector<TrainedTensor>& tensors) {
  std::vector<Digest> digests(tensors.size());
  parallel_tasks(0, static_cast<int64_t>(tensors.size()), [&](int64_t i) {
    Hasher hasher;
    stream_converted(tensors[i], tensors[i].stored_dtype,
                     [&](std::span<const std::byte> bytes) { hasher.update(bytes); });
    digests[i] = hasher.digest();
  });
  std::map<std::string, Digest> by_name;
  for (size_t i = 0; i < tensors.size(); ++i) by_name[tensors[i].name] = digests[i];
  return by_name;
}

}  // namespace sutor
