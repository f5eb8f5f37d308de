#include "layers/parallel/row_collectives.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <numeric>

#include "csrc/base/error.h"
#include "csrc/base/index_range.h"

namespace sutor {
namespace {

std::vector<int64_t> with_rows(const at::Tensor& x, int64_t rows) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape[0] = rows;
  return shape;
}

int64_t row_elements(const at::Tensor& x) {
  int64_t count = 1;
  for (int64_t axis = 1; axis < x.dim(); ++axis) count *= x.size(axis);
  return count;
}

int64_t total(const std::vector<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

std::vector<int64_t> scaled(const std::vector<int64_t>& counts, int64_t factor) {
  std::vector<int64_t> result;
  for (const int64_t count : counts) result.push_back(count * factor);
  return result;
}

int64_t first_row(const std::vector<int64_t>& counts, int rank) {
  return std::accumulate(counts.begin(), counts.begin() + rank, int64_t{0});
}

}  // namespace

std::vector<int64_t> row_counts(int64_t rows, const Comm& comm) {
  std::vector<int64_t> counts;
  for (int r = 0; r < comm.size(); ++r) counts.push_back(spread_range(rows, r, comm.size()).size());
  return counts;
}

at::Tensor gather_rows(const at::Tensor& x, const std::vector<int64_t>& counts, Comm& comm,
                       const char* name) {
  SUTOR_ASSERT(x.size(0) == counts[comm.rank()]);
  at::Tensor all = at::empty(with_rows(x, total(counts)), x.options());
  all.narrow(0, first_row(counts, comm.rank()), x.size(0)).copy_(x);
  const auto row_bytes = row_elements(x) * static_cast<int64_t>(x.element_size());
  comm.all_gather(std::span(static_cast<std::byte*>(all.data_ptr()), all.nbytes()),
                  scaled(counts, row_bytes), name);
  return all;
}

at::Tensor reduce_scatter_rows(const at::Tensor& x, const std::vector<int64_t>& counts, Comm& comm,
                               const char* name) {
  SUTOR_ASSERT(x.size(0) == total(counts));
  at::Tensor sum = at::empty(x.sizes(), x.options().dtype(at::kFloat));
  sum.copy_(x);
  comm.reduce_scatter(std::span(sum.data_ptr<float>(), static_cast<size_t>(sum.numel())),
                      scaled(counts, row_elements(x)), name);
  const at::Tensor own = sum.narrow(0, first_row(counts, comm.rank()), counts[comm.rank()]);
  return at::empty(own.sizes(), x.options()).copy_(own);
}

void reduce_in_place(const at::Tensor& x, ReduceOp op, Comm& comm, const char* name) {
  SUTOR_ASSERT(x.is_contiguous());
  const auto count = static_cast<size_t>(x.numel());
  if (x.scalar_type() == at::kLong) {
    comm.all_reduce(std::span(x.data_ptr<int64_t>(), count), op, name);
  } else if (x.scalar_type() == at::kDouble) {
    comm.all_reduce(std::span(x.data_ptr<double>(), count), op, name);
  } else {
    comm.all_reduce(std::span(x.data_ptr<float>(), count), op, name);
  }
}

at::Tensor sum_rows(const at::Tensor& x, Comm& comm, const char* name) {
  at::Tensor sum = at::empty(x.sizes(), x.options().dtype(at::kFloat));
  sum.copy_(x);
  reduce_in_place(sum, ReduceOp::kSum, comm, name);
  return sum.to(x.scalar_type());
}

}  // namespace sutor
