// Which keys the queries of an attention see. Made once a micro-batch, or once a forward pass with
// a cache, and used by all its layers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace sutor {

// The rows of k and v that are a document's keys: the first one, and how many.
struct KeyRows {
  std::vector<int64_t> begins, counts;  // [documents]
};

}  // namespace sutor

namespace sutor::ops {

// Runs of queries, one after the other. Query r of a run with n queries attends to all but the last
// n - 1 - r of the run's keys, or to the last of those where there is a sliding window.
// Neighbouring runs may share keys, which then begin at the same row; those of other runs do not
// overlap.
struct AttentionRuns {
  std::vector<int64_t> offsets;  // [runs + 1] of the queries, offsets[0] = 0
  KeyRows keys;                  // of each run: rows of k, k_shared and v
  bool same_rows = true;         // the keys of each run are the rows of its queries
  int64_t longest_queries = 0;
  at::Tensor query_offsets;  // int32 [runs + 1], where the tensors are: the offsets, for kernels

  size_t size() const { return keys.counts.size(); }
};

// Of documents that attend to themselves.
AttentionRuns runs_of_documents(std::vector<int64_t> doc_offsets, at::Device device);
// Of queries whose keys are elsewhere.
AttentionRuns runs_over(std::vector<int64_t> offsets, KeyRows keys, at::Device device);

}  // namespace sutor::ops
