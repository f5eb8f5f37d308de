#include "layers/attention/kv_cache.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "csrc/base/error.h"

namespace sutor {

KvCache::KvCache(int num_layers, int64_t slots, int64_t capacity)
    : capacity_(capacity),
      lengths_(static_cast<size_t>(slots), 0),
      layers_(static_cast<size_t>(num_layers)) {}

void KvCache::append(int layer, const at::Tensor& rows, const PackedBatch& batch,
                     const std::vector<int64_t>& slots) {
  at::Tensor& cached = layers_[layer];
  if (!cached.defined()) {
    cached =
        at::empty({static_cast<int64_t>(lengths_.size()), capacity_, rows.size(1)}, rows.options());
  }
  for (size_t d = 0; d < slots.size(); ++d) {
    const int64_t begin = batch.doc_offsets[d], count = batch.doc_offsets[d + 1] - begin;
    const int64_t at = lengths_[slots[d]];
    SUTOR_ASSERT(at + count <= capacity_);
    cached[slots[d]].narrow(0, at, count).copy_(rows.narrow(0, begin, count));
  }
}

at::Tensor KvCache::rows(int layer) const {
  const at::Tensor& cached = layers_[layer];
  return cached.view({cached.size(0) * cached.size(1), cached.size(2)});
}

KeyRows KvCache::key_rows(const PackedBatch& batch, const std::vector<int64_t>& slots) const {
  KeyRows keys;
  for (size_t d = 0; d < slots.size(); ++d) {
    keys.begins.push_back(slots[d] * capacity_);
    keys.counts.push_back(lengths_[slots[d]] + batch.doc_offsets[d + 1] - batch.doc_offsets[d]);
  }
  return keys;
}

void KvCache::advance(const PackedBatch& batch, const std::vector<int64_t>& slots) {
  for (size_t d = 0; d < slots.size(); ++d) {
    lengths_[slots[d]] += batch.doc_offsets[d + 1] - batch.doc_offsets[d];
  }
}

}  // namespace sutor
