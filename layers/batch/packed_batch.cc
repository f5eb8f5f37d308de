#include "layers/batch/packed_batch.h"

#include <torch/types.h>

namespace sutor {

PackedBatch make_packed_batch(const std::vector<int64_t>& ids, std::vector<int64_t> doc_offsets,
                              const std::vector<int64_t>& starts) {
  PackedBatch batch;
  const int64_t count = static_cast<int64_t>(ids.size());
  batch.ids = at::empty({count}, at::kLong);
  batch.positions = at::empty({count}, at::kLong);
  std::copy(ids.begin(), ids.end(), batch.ids.data_ptr<int64_t>());
  int64_t* positions = batch.positions.data_ptr<int64_t>();
  for (size_t d = 0; d + 1 < doc_offsets.size(); ++d) {
    const int64_t shift = (starts.empty() ? 0 : starts[d]) - doc_offsets[d];
    for (int64_t t = doc_offsets[d]; t < doc_offsets[d + 1]; ++t) positions[t] = t + shift;
  }
  batch.doc_offsets = std::move(doc_offsets);
  return batch;
}

PackedBatch make_context_batch(const std::vector<int64_t>& ids,
                               const std::vector<int64_t>& doc_offsets, Comm& cp) {
  if (cp.size() == 1) return make_packed_batch(ids, doc_offsets);
  PackedBatch batch;
  const auto split = std::make_shared<ContextSplit>(split_context(doc_offsets, cp));
  std::vector<int64_t> own, starts;
  for (const int64_t token : split->tokens) own.push_back(ids[token]);
  for (size_t run = 0; run + 1 < split->offsets.size(); ++run) {
    starts.push_back(split->keys.counts[run] - (split->offsets[run + 1] - split->offsets[run]));
  }
  batch = make_packed_batch(own, split->offsets, starts);
  batch.split = split;
  return batch;
}

std::vector<int64_t> own_values(const PackedBatch& batch, const std::vector<int64_t>& values) {
  if (!batch.split) return values;
  std::vector<int64_t> own;
  for (const int64_t token : batch.split->tokens) own.push_back(values[token]);
  return own;
}

}  // namespace sutor
