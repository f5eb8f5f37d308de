// The tokens of one micro-batch on one rank: documents one after the other, no padding.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace sutor {

struct PackedBatch {
  at::Tensor ids;                    // int64 [T]
  at::Tensor positions;              // int64 [T], within each document
  std::vector<int64_t> doc_offsets;  // [documents + 1], doc_offsets[0] = 0, last = T
  int64_t num_tokens() const { return doc_offsets.empty() ? 0 : doc_offsets.back(); }
};

// ids: of all documents in a row; offsets as above. starts: the position of each document's first
// token, empty = 0.
PackedBatch make_packed_batch(const std::vector<int64_t>& ids, std::vector<int64_t> doc_offsets,
                              const std::vector<int64_t>& starts = {});

}  // namespace sutor
