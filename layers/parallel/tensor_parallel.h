// How the blocks of a layer are shared by the ranks of a tensor-parallel group. Inside a region
// (attention, a dense MLP, shared experts) each rank computes with its part of the heads or of the
// width, on all tokens: it enters with all rows and leaves with the sum of the ranks' results.
// Between regions every rank has all rows, or with sequence parallelism (arXiv 2205.05198) a run of
// them of its own. Gradients of what runs in a region are partial sums: a region's end adds them
// for the rows, the gradient reduction for the weights that tp does not divide.
// All calls are collective over the group, forward and, where the input has a gradient, backward.
// T: rows of the whole; T': rows between regions, T or this rank's run. With one rank all of them
// return their input.
#pragma once

#include <ATen/core/Tensor.h>

#include "csrc/comm/comm.h"
#include "parallel_state/placement/tensor_shard.h"

namespace sutor {

class TensorParallel {
 public:
  TensorParallel(Comm& comm, bool sequence_parallel)
      : comm_(comm), sequence_parallel_(sequence_parallel) {}

  Comm& comm() const { return comm_; }
  bool is_first() const { return comm_.rank() == 0; }
  // This rank's run of T rows.
  IndexRange rows_of(int64_t rows) const { return rank_range(rows, comm_.rank(), comm_.size()); }
  // How many rows this rank has between regions.
  int64_t rows_between(int64_t rows) const {
    return sequence_parallel_ ? rows_of(rows).size() : rows;
  }

  // Into a region: [T', H] -> [T, H]; backward adds the ranks' gradients.
  at::Tensor enter(const at::Tensor& x, int64_t rows) const;
  // Out of it: adds the ranks' [T, H] -> [T', H].
  at::Tensor leave(const at::Tensor& y, int64_t rows) const;
  // For what divides the rows whatever happens between regions (routing): [T', H] -> this rank's
  // run, and back.
  at::Tensor own_rows(const at::Tensor& x, int64_t rows) const;
  at::Tensor all_rows(const at::Tensor& y, int64_t rows) const;

 private:
  Comm& comm_;
  bool sequence_parallel_;
};

}  // namespace sutor
