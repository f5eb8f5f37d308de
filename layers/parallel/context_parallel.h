// Context parallelism: the ranks of a group share the tokens of a micro-batch. Every document is
// split into 2n near-equal chunks for n ranks, and rank r takes chunks r and 2n - 1 - r, so that
// causal attention is equal work on all ranks. Attention gathers the keys of all tokens and
// reduce-scatters their gradients; everything else works on a rank's own tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "csrc/comm/comm.h"
#include "csrc/ops/attention_runs.h"

namespace sutor {

struct ContextSplit {
  Comm* comm = nullptr;
  std::vector<int64_t> documents;  // [documents + 1]: offsets in the full batch
  std::vector<int64_t> tokens;     // [T], in order: the indices of this rank's in the full batch
  std::vector<int64_t> offsets;    // [runs + 1]: runs of neighbouring tokens of a document
  KeyRows keys;                    // of each run, in the full batch: its document up to its end
  std::vector<int64_t> counts;     // tokens of each rank
  at::Tensor gathered_row;         // int64 [all tokens]: row of each token in the gathered tensor
  at::Tensor token_of_row;         // int64 [all tokens]: the inverse
  int64_t all_tokens() const { return token_of_row.numel(); }
};

// doc_offsets: of the full batch. The tensors are on `device`.
ContextSplit split_context(const std::vector<int64_t>& doc_offsets, Comm& comm, at::Device device);

// This rank's rows [T, ...] -> [all tokens, ...], in the order of the full batch. Collective over
// the group, backward too where x has a gradient.
at::Tensor gather_context(const at::Tensor& x, const ContextSplit& split);

}  // namespace sutor
