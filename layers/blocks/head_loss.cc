#include "layers/blocks/head_loss.h"

#include <torch/types.h>

#include <cmath>

#include "csrc/base/profile.h"
#include "csrc/ops/cpu/few_rows_gemm.h"
#include "csrc/ops/cpu/softmax_kernels.h"
#include "csrc/ops/cpu/torch_ops.h"
#include "layers/parallel/row_collectives.h"

namespace sutor {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 23;  // logits at a time: 32 MiB of fp32

// h [n, H] times the weight of the head, in fp32: [n, V], V being this rank's shard.
at::Tensor logits_of(const at::Tensor& h, const at::Tensor& weight) {
  constexpr int64_t kColumns = 1024;
  const ProfileScope scope("head, logits");
  const int64_t vocab = weight.size(0);
  at::Tensor logits = at::empty({h.size(0), vocab}, h.options().dtype(at::kFloat));
  ops::parallel((vocab + kColumns - 1) / kColumns, 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kColumns, count = std::min(end * kColumns, vocab) - first;
    ops::few_rows_mm_transposed(h, weight.narrow(0, first, count), logits.narrow(1, first, count));
  });
  return logits;
}

// d_logits [n, V] times the weight: [n, H].
at::Tensor d_hidden_of(const at::Tensor& d_logits, const at::Tensor& weight) {
  constexpr int64_t kColumns = 256;
  const ProfileScope scope("head, input gradient");
  const int64_t hidden = weight.size(1);
  at::Tensor d_h = at::empty({d_logits.size(0), hidden}, weight.options());
  ops::parallel((hidden + kColumns - 1) / kColumns, 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kColumns, count = std::min(end * kColumns, hidden) - first;
    ops::few_rows_mm(d_logits, weight.narrow(1, first, count), d_h.narrow(1, first, count));
  });
  return d_h;
}

// Cross entropy of logits [n, V], in place: they become scale * d(loss)/d(logits).
struct RowLosses {
  std::vector<float> loss;
  std::vector<uint8_t> correct;
};

RowLosses cross_entropy(const at::Tensor& logits, const int64_t* target, double scale) {
  const int64_t rows = logits.size(0), vocab = logits.size(1);
  RowLosses result{std::vector<float>(rows), std::vector<uint8_t>(rows)};
  ops::parallel(rows, 1, [&](int64_t from, int64_t to) {
    ops::cross_entropy(logits.data_ptr<float>() + from * vocab, target + from,
                       result.loss.data() + from, result.correct.data() + from, to - from, vocab,
                       static_cast<float>(scale));
  });
  return result;
}

// The same where each rank has the logits of its shard of the vocabulary (Megatron's
// vocabulary-parallel cross entropy): reduces the largest logit, then the sum of exponentials and
// the target's logit over the ranks.
RowLosses cross_entropy(const at::Tensor& logits, const int64_t* target, double scale,
                        IndexRange own, Comm& comm) {
  const int64_t rows = logits.size(0);
  const auto floats = [](const at::Tensor& t) {
    return std::span(t.data_ptr<float>(), static_cast<size_t>(t.numel()));
  };
  const at::Tensor top = logits.amax(1);  // [n]
  comm.all_reduce(floats(top), ReduceOp::kMax, "loss, largest logit");
  at::Tensor sums = at::zeros({2, rows}, at::kFloat);  // of exponentials; the target's logit
  for (int64_t r = 0; r < rows; ++r) {
    if (target[r] < own.begin || target[r] >= own.end) continue;
    sums.data_ptr<float>()[rows + r] =
        logits.data_ptr<float>()[r * own.size() + target[r] - own.begin];
  }
  at::Tensor weights = logits;
  weights.sub_(top.unsqueeze(1)).exp_();
  sums[0].copy_(weights.sum(1, /*keepdim=*/false, at::kDouble));
  comm.all_reduce(floats(sums), ReduceOp::kSum, "loss, sums");
  weights.mul_((scale / sums[0]).unsqueeze(1));
  RowLosses result{std::vector<float>(rows), std::vector<uint8_t>(rows)};
  for (int64_t r = 0; r < rows; ++r) {
    const float wanted = sums.data_ptr<float>()[rows + r], largest = top.data_ptr<float>()[r];
    result.loss[r] = static_cast<float>(std::log(static_cast<double>(sums.data_ptr<float>()[r])) +
                                        largest - wanted);
    result.correct[r] = wanted >= largest;
    if (target[r] < own.begin || target[r] >= own.end) continue;
    weights.data_ptr<float>()[r * own.size() + target[r] - own.begin] -= static_cast<float>(scale);
  }
  return result;
}

}  // namespace

HeadLoss head_loss(const at::Tensor& hidden, const std::vector<int64_t>& targets,
                   const Parameter& head, const TensorParallel& tensor_parallel, double scale,
                   bool gradient) {
  const ProfileScope scope("head and loss");
  at::NoGradGuard no_grad;
  HeadLoss result;
  std::vector<int64_t> position, target;
  for (size_t t = 0; t < targets.size(); ++t) {
    if (targets[t] < 0) continue;
    position.push_back(static_cast<int64_t>(t));
    target.push_back(targets[t]);
  }
  result.is_correct.resize(targets.size(), 0);
  if (gradient) result.d_hidden = at::zeros_like(hidden);
  const at::Tensor weight = head.value.detach();
  Comm& comm = tensor_parallel.comm();
  const int64_t vocab = head.global_shape[0], count = static_cast<int64_t>(target.size());
  const IndexRange own = tensor_parallel.rows_of(vocab);
  // The same on all ranks of the group, since a chunk is collective.
  const int64_t chunk = std::clamp<int64_t>(kChunkElements * comm.size() / vocab, 16, 4096);
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t rows = std::min(chunk, count - begin);
    const at::Tensor index = at::tensor(at::ArrayRef<int64_t>(position.data() + begin, rows));
    const at::Tensor h = at::index_select(hidden, 0, index);
    const at::Tensor logits = logits_of(h, weight);
    const RowLosses losses = comm.size() == 1
                                 ? cross_entropy(logits, target.data() + begin, scale)
                                 : cross_entropy(logits, target.data() + begin, scale, own, comm);
    for (int64_t r = 0; r < rows; ++r) {
      result.loss_sum += losses.loss[r];
      result.correct += losses.correct[r];
      result.is_correct[position[begin + r]] = losses.correct[r];
    }
    if (!gradient) continue;
    const at::Tensor d_logits = logits.to(weight.scalar_type());
    result.d_hidden.index_copy_(0, index, d_hidden_of(d_logits, weight));
    if (head.trains()) {
      at::Tensor grad = head.main_grad;
      if (weight.scalar_type() == at::kFloat) {
        grad.addmm_(d_logits.t(), h);
      } else {
        grad.add_(at::mm(d_logits.t(), h));
      }
    }
  }
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
