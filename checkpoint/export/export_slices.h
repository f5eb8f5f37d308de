// Makes the slices of a merged export that are not the base's bytes: trained values, plain or
// quantised again, and dequantised matrices. Records the digest and the rounding of each trained
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
#include "csrc/base/parallel.h"

namespace sutor {

struct TensorRecord {
  Digest digest;                         // equals stored_digest() of the export
  std::optional<RoundingSums> rounding;  // of tensors that the base has quantised
};

class SliceBuilder {
 public:
  // Arguments must outlive it. `team`: makes what several tensors have in a piece.
  SliceBuilder(const ModelDirectory& base, const std::vector<TrainedTensor>& trained,
               ThreadTeam& team);

  // Gives the bytes of a slice of `tensor` to `sink`, in order. Needs memory for the slice and
  // about 4 MiB; for a slice that consists of one tensor's elements only the latter. Thread-safe.
  void make(const OutputTensor& tensor, const OutputSlice& slice, const ByteSink& sink);

  // Of all trained tensors whose slices were made.
  const std::map<std::string, TensorRecord>& records() const { return records_; }

 private:
  using RowBytes = std::function<void(int64_t row, int64_t count, const std::byte* bytes)>;

  void make_single_tensor(const OutputSlice& slice, const ByteSink& sink);
  void make_tensor(const OutputSlice& slice, const TensorInSlice& tensor,
                   std::vector<std::byte>& bytes);
  void make_elements(const OutputSlice& slice, const TensorInSlice& tensor, const RowBytes& to);
  void requantize(const TensorInSlice& tensor, const RowBytes& elements, QuantizedScales* scales);
  void record(const std::string& name, TensorRecord record);

  const ModelDirectory& base_;
  ThreadTeam& team_;
  std::map<std::string, const TrainedTensor*> trained_;
  std::mutex mutex_;
  std::map<std::string, TensorRecord> records_;
};

}  // namespace sutor
