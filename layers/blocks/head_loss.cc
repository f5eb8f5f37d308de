#include "layers/blocks/head_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/logical_and.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "csrc/base/profile.h"
#include "csrc/ops/cross_entropy.h"
#include "csrc/ops/device/host_window.h"
#include "csrc/ops/device/memory.h"
#include "csrc/ops/exact_sum.h"
#include "layers/parallel/row_collectives.h"

namespace sutor {
namespace {

// The supervised positions and their targets, on the device of the hidden states.
struct Targets {
  at::Tensor position, target;  // int64 [n]
};

Targets supervised(const std::vector<int64_t>& targets, at::Device device) {
  std::vector<int64_t> position, target;
  for (size_t t = 0; t < targets.size(); ++t) {
    if (targets[t] < 0) continue;
    position.push_back(static_cast<int64_t>(t));
    target.push_back(targets[t]);
  }
  return {ops::longs_on(position, device), ops::longs_on(target, device)};
}

// Sums of the rows of x [n, V] in double, [n]; a sum of another type copies all that it sums.
at::Tensor row_sums(const at::Tensor& x) {
  constexpr int64_t kAtOnce = int64_t{1} << 20;  // elements
  const int64_t rows = std::max<int64_t>(1, kAtOnce / std::max<int64_t>(1, x.size(1)));
  at::Tensor sums = at::empty({x.size(0)}, x.options().dtype(at::kDouble));
  for (int64_t begin = 0; begin < x.size(0); begin += rows) {
    const int64_t n = std::min(rows, x.size(0) - begin);
    sums.narrow(0, begin, n).copy_(x.narrow(0, begin, n).to(at::kDouble).sum(1));
  }
  return sums;
}

// Cross entropy of logits [n, V], in place: they become scale * d(loss)/d(logits). Each rank has
// the logits of its shard of the vocabulary (Megatron's vocabulary-parallel cross entropy): reduces
// the largest logit, then the sum of exponentials and the target's logit over the ranks.
void sharded_cross_entropy(at::Tensor logits, const at::Tensor& target, double scale,
                           IndexRange own, Comm& comm, at::Tensor loss, at::Tensor correct) {
  const at::Tensor top = logits.amax(1);  // [n]
  reduce_in_place(top, ReduceOp::kMax, comm, "loss, largest logit");
  const at::Tensor is_own = at::logical_and(target >= own.begin, target < own.end);
  const at::Tensor column = at::mul(target - own.begin, is_own).unsqueeze(1);
  const at::Tensor own_float = is_own.to(at::kFloat);
  at::Tensor sums = at::empty({2, logits.size(0)}, logits.options());  // of exponentials; the
  sums[1].copy_(logits.gather(1, column).squeeze(1).mul_(own_float));  // target's logit
  logits.sub_(top.unsqueeze(1)).exp_();
  sums[0].copy_(row_sums(logits));
  reduce_in_place(sums, ReduceOp::kSum, comm, "loss, sums");
  logits.mul_((scale / sums[0]).unsqueeze(1));
  logits.scatter_add_(1, column, own_float.mul(-static_cast<float>(scale)).unsqueeze(1));
  loss.copy_(sums[0].to(at::kDouble).log().add_(top).sub_(sums[1]));
  correct.copy_(sums[1] >= top);
}

at::Tensor logits_of(const at::Tensor& h, const at::Tensor& weight) {
  const ProfileScope scope("head, logits");
  return ops::head_logits(h, weight);
}

}  // namespace

HeadLoss head_loss(const at::Tensor& hidden, const std::vector<int64_t>& targets,
                   const Parameter& head, const TensorParallel& tensor_parallel, double scale,
                   bool gradient) {
  const ProfileScope scope("head and loss");
  at::NoGradGuard no_grad;
  const auto [position, target] = supervised(targets, hidden.device());
  const int64_t count = target.numel();
  const at::Tensor weight = head.value.detach();
  Comm& comm = tensor_parallel.comm();
  const int64_t vocab = head.global_shape[0];
  const IndexRange own = tensor_parallel.rows_of(vocab);
  const at::Tensor losses = at::empty({count}, hidden.options().dtype(at::kFloat));
  const at::Tensor correct = at::empty({count}, hidden.options().dtype(at::kByte));
  HeadLoss result;
  if (gradient) result.d_hidden = at::zeros_like(hidden);
  // The same on all ranks of the group, since a chunk is collective.
  const int64_t chunk = ops::head_rows_at_once(hidden, vocab, comm.size());
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t rows = std::min(chunk, count - begin);
    const auto part = [&](const at::Tensor& all) { return all.narrow(0, begin, rows); };
    const ops::MemoryScope memory(ops::MemoryItem::kLogits);
    const at::Tensor h = at::index_select(hidden, 0, part(position));
    const at::Tensor logits = logits_of(h, weight);
    if (comm.size() == 1) {
      ops::cross_entropy_(logits, part(target), scale, part(losses), part(correct));
    } else {
      sharded_cross_entropy(logits, part(target), scale, own, comm, part(losses), part(correct));
    }
    if (!gradient) continue;
    const at::Tensor d_logits = logits.to(weight.scalar_type());
    {
      const ProfileScope gradient_scope("head, input gradient");
      result.d_hidden.index_copy_(0, part(position), ops::head_input_gradient(d_logits, weight));
    }
    if (head.trains()) {
      at::Tensor grad = head.main_grad;
      if (weight.scalar_type() == at::kFloat) {
        grad.addmm_(d_logits.t(), h);
      } else {
        grad.add_(at::mm(d_logits.t(), h));
      }
    }
  }
  result.loss_sum = ops::sum_in_order(losses);
  result.losses = losses;
  result.is_correct = at::zeros({hidden.size(0)}, correct.options());
  result.is_correct.index_copy_(0, position, correct);
  return result;
}

at::Tensor head_logits(const at::Tensor& hidden, const Parameter& head,
                       const TensorParallel& tensor_parallel) {
  const at::Tensor own = logits_of(hidden.contiguous(), head.value.detach());
  Comm& comm = tensor_parallel.comm();
  if (comm.size() == 1) return own;
  const int64_t vocab = head.global_shape[0];
  return gather_rows(own.t().contiguous(), row_counts(vocab, comm), comm, "gather logits")
      .t()
      .contiguous();
}

}  // namespace sutor
