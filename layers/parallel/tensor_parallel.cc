#include "layers/parallel/tensor_parallel.h"

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include "csrc/base/profile.h"
#include "layers/parallel/row_collectives.h"

namespace sutor {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// An operation on rows; the backward pass of each is another of them.
enum class RowOp : int64_t {
  kGather,         // own rows -> all rows
  kReduceScatter,  // sum of all rows -> own rows
  kSum,            // sum of all rows -> all rows
  kSame,
  kSlice,  // all rows -> own rows, no sum
};

// A step over the group: what is done to rows and to their gradients, and the names of the two.
struct Step {
  RowOp forward, backward;
  const char *name, *backward_name;
};

constexpr Step kEnterSequence = {RowOp::kGather, RowOp::kReduceScatter, "enter region",
                                 "enter region, backward"};
constexpr Step kEnter = {RowOp::kSame, RowOp::kSum, "enter region", "enter region, backward"};
constexpr Step kLeaveSequence = {RowOp::kReduceScatter, RowOp::kGather, "leave region",
                                 "leave region, backward"};
constexpr Step kLeave = {RowOp::kSum, RowOp::kSame, "leave region", "leave region, backward"};
constexpr Step kOwnRows = {RowOp::kSlice, RowOp::kGather, "own rows", "own rows, backward"};
constexpr Step kAllRows = {RowOp::kGather, RowOp::kSlice, "all rows", "all rows, backward"};

at::Tensor apply_row_op(const at::Tensor& x, RowOp op, int64_t rows, Comm& comm, const char* name) {
  if (op == RowOp::kSame) return x.view_as(x);
  const ProfileScope scope("tensor parallel");
  if (op == RowOp::kSum) return sum_rows(x, comm, name);
  const std::vector<int64_t> counts = row_counts(rows, comm);
  if (op == RowOp::kGather) return gather_rows(x, counts, comm, name);
  if (op == RowOp::kReduceScatter) return reduce_scatter_rows(x, counts, comm, name);
  const IndexRange run = spread_range(rows, comm.rank(), comm.size());
  return x.narrow(0, run.begin, run.size()).clone();
}

class StepFunction : public torch::autograd::Function<StepFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const Step* step,
                            int64_t rows, Comm* comm) {
    ctx->saved_data["step"] = reinterpret_cast<int64_t>(step);
    ctx->saved_data["rows"] = rows;
    ctx->saved_data["comm"] = reinterpret_cast<int64_t>(comm);
    return apply_row_op(x, step->forward, rows, *comm, step->name);
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto* step = reinterpret_cast<const Step*>(ctx->saved_data["step"].toInt());
    auto* comm = reinterpret_cast<Comm*>(ctx->saved_data["comm"].toInt());
    return {apply_row_op(grads[0].contiguous(), step->backward, ctx->saved_data["rows"].toInt(),
                         *comm, step->backward_name),
            at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

at::Tensor apply(const at::Tensor& x, const Step& step, int64_t rows, Comm& comm) {
  if (comm.size() == 1) return x;
  return StepFunction::apply(x, &step, rows, &comm);
}

}  // namespace

at::Tensor TensorParallel::enter(const at::Tensor& x, int64_t rows) const {
  return apply(x, sequence_parallel_ ? kEnterSequence : kEnter, rows, comm_);
}

at::Tensor TensorParallel::leave(const at::Tensor& y, int64_t rows) const {
  return apply(y, sequence_parallel_ ? kLeaveSequence : kLeave, rows, comm_);
}

at::Tensor TensorParallel::own_rows(const at::Tensor& x, int64_t rows) const {
  return sequence_parallel_ ? x : apply(x, kOwnRows, rows, comm_);
}

at::Tensor TensorParallel::all_rows(const at::Tensor& y, int64_t rows) const {
  return sequence_parallel_ ? y : apply(y, kAllRows, rows, comm_);
}

}  // namespace sutor
