#include "csrc/ops/attention_runs.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "csrc/ops/device/host_window.h"

namespace sutor::ops {
namespace {

AttentionRuns complete(AttentionRuns runs, at::Device device) {
  for (size_t run = 0; run < runs.size(); ++run) {
    runs.longest_queries =
        std::max(runs.longest_queries, runs.offsets[run + 1] - runs.offsets[run]);
  }
  runs.query_offsets = to_device(at::tensor(runs.offsets, at::kInt), device);
  return runs;
}

}  // namespace

AttentionRuns runs_of_documents(std::vector<int64_t> doc_offsets, at::Device device) {
  AttentionRuns runs;
  for (size_t d = 0; d + 1 < doc_offsets.size(); ++d) {
    runs.keys.begins.push_back(doc_offsets[d]);
    runs.keys.counts.push_back(doc_offsets[d + 1] - doc_offsets[d]);
  }
  runs.offsets = std::move(doc_offsets);
  return complete(std::move(runs), device);
}

AttentionRuns runs_over(std::vector<int64_t> offsets, KeyRows keys, at::Device device) {
  AttentionRuns runs;
  runs.offsets = std::move(offsets);
  runs.keys = std::move(keys);
  runs.same_rows = false;
  return complete(std::move(runs), device);
}

}  // namespace sutor::ops
