#include "layers/parallel/context_parallel.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <torch/csrc/autograd/custom_function.h>

#include "csrc/base/profile.h"
#include "csrc/ops/device/host_window.h"
#include "layers/parallel/row_collectives.h"

namespace sutor {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// A run of tokens of one document: [begin, end) of the full batch.
struct TokenRun {
  int64_t document_begin = 0, begin = 0, end = 0;
};

std::vector<TokenRun> runs_of(const std::vector<int64_t>& doc_offsets, int rank, int ranks) {
  std::vector<TokenRun> runs;
  for (size_t d = 0; d + 1 < doc_offsets.size(); ++d) {
    const int64_t first = doc_offsets[d], length = doc_offsets[d + 1] - first;
    for (const int chunk : {rank, 2 * ranks - 1 - rank}) {
      const int64_t begin = first + length * chunk / (2 * ranks);
      const int64_t end = first + length * (chunk + 1) / (2 * ranks);
      if (begin < end) runs.push_back({first, begin, end});
    }
  }
  return runs;
}

class GatherFunction : public torch::autograd::Function<GatherFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& row,
                            const at::Tensor& token, const std::vector<int64_t>& counts,
                            Comm* comm) {
    const ProfileScope scope("context parallel");
    ctx->save_for_backward({token});
    ctx->saved_data["counts"] = counts;
    ctx->saved_data["comm"] = reinterpret_cast<int64_t>(comm);
    return at::index_select(gather_rows(x, counts, *comm, "gather context"), 0, row);
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const ProfileScope scope("context parallel");
    const at::Tensor token = ctx->get_saved_variables()[0];
    auto* comm = reinterpret_cast<Comm*>(ctx->saved_data["comm"].toInt());
    return {reduce_scatter_rows(at::index_select(grads[0], 0, token),
                                ctx->saved_data["counts"].toIntVector(), *comm,
                                "gather context, backward"),
            at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

ContextSplit split_context(const std::vector<int64_t>& doc_offsets, Comm& comm, at::Device device) {
  ContextSplit split;
  split.comm = &comm;
  split.documents = doc_offsets;
  split.offsets.push_back(0);
  for (const TokenRun& run : runs_of(doc_offsets, comm.rank(), comm.size())) {
    for (int64_t t = run.begin; t < run.end; ++t) split.tokens.push_back(t);
    split.offsets.push_back(static_cast<int64_t>(split.tokens.size()));
    split.keys.begins.push_back(run.document_begin);
    split.keys.counts.push_back(run.end - run.document_begin);
  }
  split.gathered_row = at::empty({doc_offsets.back()}, at::kLong);
  split.token_of_row = at::empty({doc_offsets.back()}, at::kLong);
  int64_t row = 0;
  for (int r = 0; r < comm.size(); ++r) {
    const int64_t first = row;
    for (const TokenRun& run : runs_of(doc_offsets, r, comm.size())) {
      for (int64_t t = run.begin; t < run.end; ++t, ++row) {
        split.gathered_row.data_ptr<int64_t>()[t] = row;
        split.token_of_row.data_ptr<int64_t>()[row] = t;
      }
    }
    split.counts.push_back(row - first);
  }
  split.gathered_row = ops::to_device(split.gathered_row, device);
  split.token_of_row = ops::to_device(split.token_of_row, device);
  return split;
}

at::Tensor gather_context(const at::Tensor& x, const ContextSplit& split) {
  return GatherFunction::apply(x, split.gathered_row, split.token_of_row, split.counts, split.comm);
}

}  // namespace sutor
