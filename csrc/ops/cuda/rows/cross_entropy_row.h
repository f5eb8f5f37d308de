// Cross entropy of one row of logits, in place (csrc/ops/cross_entropy.h).
#pragma once

#include "csrc/ops/cuda/rows/number.h"

namespace sutor::ops::cuda {

// The sum has up to 200,000 terms: it is in double.
template <typename Block>
SUTOR_HOST_DEVICE void cross_entropy_row(const Block& block, float* logits, int64_t target,
                                         float scale, float* loss, uint8_t* correct,
                                         int64_t vocab) {
  const float wanted = logits[target];  // by all threads, before any of them writes
  const float top = block.max(vocab, [=](int64_t v) { return logits[v]; });
  const double sum =
      block.template sum<double>(vocab, [=](int64_t v) { return expf(logits[v] - top); });
  block.once([=] {
    *loss = static_cast<float>(log(sum) + top - wanted);
    *correct = wanted >= top;
  });
  const float factor = static_cast<float>(scale / sum);
  block.each(vocab, [=](int64_t v) {
    logits[v] = expf(logits[v] - top) * factor - (v == target ? scale : 0.0f);
  });
}

}  // namespace sutor::ops::cuda
