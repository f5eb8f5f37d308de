#include "layers/batch/packed_batch.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>

#include "csrc/ops/device/host_window.h"

namespace sutor {

namespace {

// Without the runs.
PackedBatch packed(const std::vector<int64_t>& ids, const std::vector<int64_t>& doc_offsets,
                   const std::vector<int64_t>& starts, at::Device device) {
  const int64_t count = static_cast<int64_t>(ids.size());
  const at::Tensor ids_T = at::empty({count}, at::kLong), positions_T = at::empty_like(ids_T);
  std::copy(ids.begin(), ids.end(), ids_T.data_ptr<int64_t>());
  int64_t* positions = positions_T.data_ptr<int64_t>();
  for (size_t d = 0; d + 1 < doc_offsets.size(); ++d) {
    const int64_t shift = (starts.empty() ? 0 : starts[d]) - doc_offsets[d];
    for (int64_t t = doc_offsets[d]; t < doc_offsets[d + 1]; ++t) positions[t] = t + shift;
  }
  return {.ids = ops::to_device(ids_T, device),
          .positions = ops::to_device(positions_T, device),
          .doc_offsets = doc_offsets};
}

}  // namespace

PackedBatch make_packed_batch(const std::vector<int64_t>& ids, std::vector<int64_t> doc_offsets,
                              const std::vector<int64_t>& starts, at::Device device) {
  PackedBatch batch = packed(ids, doc_offsets, starts, device);
  batch.runs =
      std::make_shared<ops::AttentionRuns>(ops::runs_of_documents(std::move(doc_offsets), device));
  return batch;
}

PackedBatch make_context_batch(const std::vector<int64_t>& ids,
                               const std::vector<int64_t>& doc_offsets, Comm& cp,
                               at::Device device) {
  if (cp.size() == 1) return make_packed_batch(ids, doc_offsets, {}, device);
  const auto split = std::make_shared<ContextSplit>(split_context(doc_offsets, cp, device));
  std::vector<int64_t> own, starts;
  for (const int64_t token : split->tokens) own.push_back(ids[token]);
  for (size_t run = 0; run + 1 < split->offsets.size(); ++run) {
    starts.push_back(split->keys.counts[run] - (split->offsets[run + 1] - split->offsets[run]));
  }
  PackedBatch batch = packed(own, split->offsets, starts, device);
  batch.split = split;
  batch.runs =
      std::make_shared<ops::AttentionRuns>(ops::runs_over(split->offsets, split->keys, device));
  return batch;
}

BatchSequences sequences_of(const PackedBatch& batch) {
  const std::vector<int64_t>& offsets = batch.split ? batch.split->documents : batch.doc_offsets;
  BatchSequences sequences;
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    sequences.lengths.push_back(offsets[s + 1] - offsets[s]);
    if (!batch.split) {
      sequences.of_token.insert(sequences.of_token.end(), sequences.lengths.back(),
                                static_cast<int64_t>(s));
    }
  }
  if (!batch.split) return sequences;
  for (const int64_t token : batch.split->tokens) {
    const auto next = std::upper_bound(offsets.begin(), offsets.end(), token);
    sequences.of_token.push_back(next - offsets.begin() - 1);
  }
  return sequences;
}

std::vector<int64_t> own_values(const PackedBatch& batch, const std::vector<int64_t>& values) {
  if (!batch.split) return values;
  std::vector<int64_t> own;
  for (const int64_t token : batch.split->tokens) own.push_back(values[token]);
  return own;
}

}  // namespace sutor
