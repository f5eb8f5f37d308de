// The tokens of one micro-batch on one rank: documents one after the other, no padding. With
// context parallelism, this rank's runs of their tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "csrc/ops/attention_runs.h"
#include "layers/parallel/context_parallel.h"

namespace sutor {

struct PackedBatch {
  at::Tensor ids;                    // int64 [T]
  at::Tensor positions;              // int64 [T], within each document
  std::vector<int64_t> doc_offsets;  // [documents or runs + 1], doc_offsets[0] = 0, last = T
  std::shared_ptr<const ContextSplit> split;  // null: this rank has all tokens
  // The keys of each document or run, but for those that a cache holds.
  std::shared_ptr<const ops::AttentionRuns> runs;
  int64_t num_tokens() const { return doc_offsets.empty() ? 0 : doc_offsets.back(); }
};

// ids: those of all documents, one after the other; offsets as above. starts: the position of each
// document's first token, empty = 0. The tensors are on `device`.
PackedBatch make_packed_batch(const std::vector<int64_t>& ids, std::vector<int64_t> doc_offsets,
                              const std::vector<int64_t>& starts = {},
                              at::Device device = at::kCPU);

// This rank's tokens of a batch that a context-parallel group shares; all of them on one rank.
PackedBatch make_context_batch(const std::vector<int64_t>& ids,
                               const std::vector<int64_t>& doc_offsets, Comm& cp,
                               at::Device device = at::kCPU);

// The sequences of a batch, which are its documents, whatever part of them this rank has.
struct BatchSequences {
  std::vector<int64_t> of_token;  // [T]: the sequence of each of this rank's tokens
  std::vector<int64_t> lengths;   // of each sequence, on all ranks together
};
BatchSequences sequences_of(const PackedBatch& batch);

// values: one for each token of the batch. Returns those of this rank's tokens.
std::vector<int64_t> own_values(const PackedBatch& batch, const std::vector<int64_t>& values);

}  // namespace sutor
