#include "csrc/ops/cross_entropy.h"

#include <ATen/ops/empty.h>

#include "csrc/ops/cpu/few_rows_gemm.h"
#include "csrc/ops/cpu/softmax_kernels.h"
#include "csrc/ops/cpu/torch_ops.h"

namespace sutor::ops::cpu {

at::Tensor head_logits(const at::Tensor& h, const at::Tensor& weight) {
  constexpr int64_t kColumns = 1024;
  const int64_t vocab = weight.size(0);
  at::Tensor logits = at::empty({h.size(0), vocab}, h.options().dtype(at::kFloat));
  if (h.is_meta()) return logits;
  parallel((vocab + kColumns - 1) / kColumns, 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kColumns, count = std::min(end * kColumns, vocab) - first;
    few_rows_mm_transposed(h, weight.narrow(0, first, count), logits.narrow(1, first, count));
  });
  return logits;
}

at::Tensor head_input_gradient(const at::Tensor& d_logits, const at::Tensor& weight) {
  constexpr int64_t kColumns = 256;
  const int64_t hidden = weight.size(1);
  at::Tensor d_h = at::empty({d_logits.size(0), hidden}, weight.options());
  if (weight.is_meta()) return d_h;
  parallel((hidden + kColumns - 1) / kColumns, 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kColumns, count = std::min(end * kColumns, hidden) - first;
    few_rows_mm(d_logits, weight.narrow(1, first, count), d_h.narrow(1, first, count));
  });
  return d_h;
}

void cross_entropy_(const at::Tensor& logits, const at::Tensor& target, double scale,
                    const at::Tensor& loss, const at::Tensor& correct) {
  if (logits.is_meta()) return;
  const int64_t rows = logits.size(0), vocab = logits.size(1);
  parallel(rows, 1, [&](int64_t from, int64_t to) {
    ops::cross_entropy(logits.data_ptr<float>() + from * vocab, target.data_ptr<int64_t>() + from,
                       loss.data_ptr<float>() + from, correct.data_ptr<uint8_t>() + from, to - from,
                       vocab, static_cast<float>(scale));
  });
}

}  // namespace sutor::ops::cpu
