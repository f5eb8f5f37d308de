#include "csrc/ops/cpu/softmax_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "csrc/ops/cpu/kernels/kernel_table.h"
#include "csrc/ops/cpu/kernels/row_math.h"

namespace sutor::ops::SUTOR_KERNEL_LEVEL {
namespace {

struct Seen {
  int64_t begin, end;
};

Seen seen_by(int64_t row, int64_t cols, const CausalMask& mask) {
  const int64_t end = std::min(cols, mask.first_visible + row + 1);
  return {mask.sliding_window < end ? end - mask.sliding_window : 0, end};
}

}  // namespace

void causal_softmax(float* s, int64_t rows, int64_t cols, const CausalMask& mask, float scale,
                    float* lse, float sink) {
  for (int64_t r = 0; r < rows; ++r, s += cols) {
    const auto [begin, end] = seen_by(r, cols, mask);
    float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
    for (int64_t c = begin; c < end; ++c) top = std::max(top, s[c]);
    top = std::max(top * scale, sink);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = begin; c < end; ++c) {
      s[c] = fast_exp(scale * s[c] - top);
      sum += s[c];
    }
    sum += fast_exp(sink - top);
    const float inverse = 1.0f / sum;
#pragma omp simd
    for (int64_t c = begin; c < end; ++c) s[c] *= inverse;
    std::fill(s, s + begin, 0.0f);
    std::fill(s + end, s + cols, 0.0f);
    lse[r] = top + std::log(sum);
  }
}

void causal_probabilities(float* s, int64_t rows, int64_t cols, const CausalMask& mask, float scale,
                          const float* lse) {
  for (int64_t r = 0; r < rows; ++r, s += cols) {
    const auto [begin, end] = seen_by(r, cols, mask);
    const float shift = lse[r];
#pragma omp simd
    for (int64_t c = begin; c < end; ++c) s[c] = fast_exp(scale * s[c] - shift);
    std::fill(s, s + begin, 0.0f);
    std::fill(s + end, s + cols, 0.0f);
  }
}

void softmax_backward(const float* p, float* dp, const float* delta, int64_t rows, int64_t cols,
                      float scale) {
  for (int64_t r = 0; r < rows; ++r, p += cols, dp += cols) {
    const float shift = delta[r];
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) dp[c] = p[c] * (dp[c] - shift) * scale;
  }
}

void row_dots(const float* a, const float* b, float* delta, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, a += cols, b += cols) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < cols; ++c) sum += a[c] * b[c];
    delta[r] = sum;
  }
}

void cross_entropy(float* logits, const int64_t* target, float* loss, uint8_t* correct,
                   int64_t rows, int64_t vocab, float scale) {
  for (int64_t r = 0; r < rows; ++r, logits += vocab) {
    float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
    for (int64_t v = 0; v < vocab; ++v) top = std::max(top, logits[v]);
    const float wanted = logits[target[r]];
    // Sums of up to 200,000 terms: partial sums of 1,024 in fp32, then double.
    double sum = 0;
    for (int64_t begin = 0; begin < vocab; begin += 1024) {
      const int64_t end = std::min(vocab, begin + 1024);
      float part = 0;
#pragma omp simd reduction(+ : part)
      for (int64_t v = begin; v < end; ++v) {
        logits[v] = fast_exp(logits[v] - top);
        part += logits[v];
      }
      sum += part;
    }
    loss[r] = static_cast<float>(std::log(sum) + top - wanted);
    correct[r] = wanted >= top;
    const float factor = static_cast<float>(scale / sum);
#pragma omp simd
    for (int64_t v = 0; v < vocab; ++v) logits[v] *= factor;
    logits[target[r]] -= scale;
  }
}

void add_softmax_kernels(KernelTable& table) {
  table.causal_softmax = causal_softmax;
  table.causal_probabilities = causal_probabilities;
  table.softmax_backward = softmax_backward;
  table.row_dots = row_dots;
  table.cross_entropy = cross_entropy;
}

}  // namespace sutor::ops::SUTOR_KERNEL_LEVEL
