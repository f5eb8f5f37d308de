// Keys and values of the tokens that were already computed, for the attention of later ones: one
// row per token and layer. The attention block decides what a row contains (grouped-query: rotated
// keys, then values; latent: the latent and the rotated shared key).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "csrc/ops/attention_runs.h"
#include "layers/batch/packed_batch.h"

namespace sutor {

class KvCache {
 public:
  // Room for `slots` sequences of `capacity` tokens each. The memory of a layer is allocated with
  // its first append().
  KvCache(int num_layers, int64_t slots, int64_t capacity);

  int64_t capacity() const { return capacity_; }
  int64_t length(int64_t slot) const { return lengths_[slot]; }
  void clear(int64_t slot) { lengths_[slot] = 0; }

  // The documents of `batch` continue the sequences in `slots`. Writes their rows [T, width] after
  // the existing ones; advance() counts them after the last layer.
  void append(int layer, const at::Tensor& rows, const PackedBatch& batch,
              const std::vector<int64_t>& slots);
  // [slots * capacity, width]: all rows of a layer; key_rows() says which sequence owns which.
  at::Tensor rows(int layer) const;
  // For each document: the rows of its sequence, including the appended ones.
  KeyRows key_rows(const PackedBatch& batch, const std::vector<int64_t>& slots) const;
  void advance(const PackedBatch& batch, const std::vector<int64_t>& slots);

 private:
  int64_t capacity_;
  std::vector<int64_t> lengths_;    // by slot
  std::vector<at::Tensor> layers_;  // [slots, capacity, width]
};

}  // namespace sutor
