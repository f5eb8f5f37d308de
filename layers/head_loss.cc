#include "layers/head_loss.h"

#include <torch/types.h>

#include "csrc/base/profile.h"
#include "csrc/ops/few_rows_gemm.h"
#include "csrc/ops/torch_ops.h"

namespace sutor {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 23;  // logits at a time: 32 MiB of fp32

// h [rows, H] times the head's weight, in fp32: [rows, vocab].
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

// d_logits [rows, vocab] times the weight: [rows, H].
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

}  // namespace

HeadLoss head_loss(const at::Tensor& hidden, const std::vector<int64_t>& targets,
                   const Parameter& head, double scale, bool gradient) {
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
  const int64_t vocab = weight.size(0), count = static_cast<int64_t>(target.size());
  const int64_t chunk = std::clamp<int64_t>(kChunkElements / vocab, 16, 4096);
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t rows = std::min(chunk, count - begin);
    const at::Tensor index = at::tensor(at::ArrayRef<int64_t>(position.data() + begin, rows));
    const at::Tensor h = at::index_select(hidden, 0, index);
    const at::Tensor logits = logits_of(h, weight);
    std::vector<float> loss(rows);
    std::vector<uint8_t> correct(rows);
    ops::parallel(rows, 1, [&](int64_t from, int64_t to) {
      ops::cross_entropy(logits.data_ptr<float>() + from * vocab, target.data() + begin + from,
                         loss.data() + from, correct.data() + from, to - from, vocab,
                         static_cast<float>(scale));
    });
    for (int64_t r = 0; r < rows; ++r) {
      result.loss_sum += loss[r];
      result.correct += correct[r];
      result.is_correct[position[begin + r]] = correct[r];
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

at::Tensor head_logits(const at::Tensor& hidden, const Parameter& head) {
  return logits_of(hidden.contiguous(), head.value.detach());
}

}  // namespace sutor
