#include "layers/packed_batch.h"

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

}  // namespace sutor
