// Makes the pieces of a merged export that are not the base's bytes: trained values in their
// places, quantised again, or whole slices dequantised; and remembers what came of each trained
// tensor.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/export/export_plan.h"
#include "checkpoint/export/requantize.h"
#include "checkpoint/export/trained_tensor.h"
#include "checkpoint/format/strided_ranges.h"
#include "csrc/base/hash.h"

namespace sutor {

struct TensorRecord {
  Digest digest;                         // as stored_digest() of the export gives it
  std::optional<RoundingSums> rounding;  // of those that the base has quantised
};

class SliceBuilder {
 public:
  // Arguments must outlive it.
  SliceBuilder(const ModelDirectory& base, const std::vector<TrainedTensor>& trained);

  // Gives the bytes of a piece of `tensor` to `sink`, in their order. At most the piece and about
  // 4 MiB are held; of a piece that is one tensor's elements the latter only. Thread-safe.
  void make(const OutputTensor& tensor, const OutputSlice& slice, const ByteSink& sink);

  // Of all trained tensors whose pieces were made.
  const std::map<std::string, TensorRecord>& records() const { return records_; }

 private:
  using RowBytes = std::function<void(int64_t row, int64_t count, const std::byte* bytes)>;

  void make_single_tensor(const OutputSlice& slice, const ByteSink& sink);
  void make_tensor(const OutputSlice& slice, const TensorInSlice& tensor,
                   std::vector<std::byte>& bytes);
  void make_elements(const OutputSlice& slice, const TensorInSlice& tensor, const RowBytes& to);
  void requantize(const TensorInSlice& tensor, const RowBytes& elements,
                  std::vector<std::byte>* scales);
  void record(const std::string& name, TensorRecord record);

  const ModelDirectory& base_;
  std::map<std::string, const TrainedTensor*> trained_;
  std::mutex mutex_;
  std::map<std::string, TensorRecord> records_;
};

}  // namespace sutor
