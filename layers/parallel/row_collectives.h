// Collectives over the rows of a tensor, without autograd: rank r of the communicator has counts[r]
// of them. Sums are in fp32 whatever the dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "csrc/comm/comm.h"

namespace sutor {

// The rows of each rank when `rows` are distributed over the ranks by spread_range().
std::vector<int64_t> row_counts(int64_t rows, const Comm& comm);

// [counts[rank], ...] of every rank -> [sum of counts, ...], in the order of ranks.
at::Tensor gather_rows(const at::Tensor& x, const std::vector<int64_t>& counts, Comm& comm,
                       const char* name);
// [sum of counts, ...] of every rank, added -> this rank's [counts[rank], ...].
at::Tensor reduce_scatter_rows(const at::Tensor& x, const std::vector<int64_t>& counts, Comm& comm,
                               const char* name);
// In place, of an fp32, double or int64 tensor that is contiguous.
void reduce_in_place(const at::Tensor& x, ReduceOp op, Comm& comm, const char* name);
// The sum over ranks, the same on each.
at::Tensor sum_rows(const at::Tensor& x, Comm& comm, const char* name);

}  // namespace sutor
