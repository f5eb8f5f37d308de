// Context parallelism: the tokens of a micro-batch over the ranks of a group. Every document is cut
// into 2n near-equal chunks for n ranks, and rank r takes chunks r and 2n - 1 - r, so that causal
// attention is the same work on all. Everything but attention works on a rank's own tokens; there,
// keys of all tokens are gathered, and their gradients are added and scattered back.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "csrc/comm/comm.h"
#include "csrc/ops/key_rows.h"

namespace sutor {

struct ContextSplit {
  Comm* comm = nullptr;
  std::vector<int64_t> tokens;   // of this rank, in order: their numbers in the whole batch
  std::vector<int64_t> offsets;  // [runs + 1]: runs of neighbouring ones in a document
  KeyRows keys;                  // of each run, in the whole batch: its document up to its end
  std::vector<int64_t> counts;   // tokens of each rank
  at::Tensor gathered_row;       // int64 [T]: place of each token among the ranks' tokens in a row
  at::Tensor token_of_row;       // int64 [T]: the inverse
};

// doc_offsets: of the whole batch.
ContextSplit split_context(const std::vector<int64_t>& doc_offsets, Comm& comm);

// This rank's rows [T', ...] -> those of the whole batch [T, ...], in its order. Collective over
// the group, backward too where x has a gradient.
at::Tensor gather_context(const at::Tensor& x, const ContextSplit& split);

}  // namespace sutor
