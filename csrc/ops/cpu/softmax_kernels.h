// Softmax over rows of scores and of logits, in fp32: serial, without torch.
#pragma once

#include <cstdint>
#include <limits>

namespace sutor::ops {

// Which columns row r of a block of attention scores sees: the last `sliding_window` of 0 ..
// first_visible
// + r.
struct CausalMask {
  int64_t first_visible = 0;
  int64_t sliding_window = std::numeric_limits<int64_t>::max();
};

// One block of scores: s [rows, cols] -> softmax(scale * s) in place over what each row sees, and 0
// elsewhere. `sink`: one more logit, not scaled, that takes part in every row's sum alone. lse[r]
// receives the log of the sum.
void causal_softmax(float* s, int64_t rows, int64_t cols, const CausalMask& mask, float scale,
                    float* lse, float sink = -std::numeric_limits<float>::infinity());
// p = exp(scale * s - lse) in place, with the same mask.
void causal_probabilities(float* s, int64_t rows, int64_t cols, const CausalMask& mask, float scale,
                          const float* lse);
// dp -> ds = p * (dp - delta[row]) * scale, in place of dp.
void softmax_backward(const float* p, float* dp, const float* delta, int64_t rows, int64_t cols,
                      float scale);
// delta[r] = <a[r], b[r]>
void row_dots(const float* a, const float* b, float* delta, int64_t rows, int64_t cols);

// Cross entropy of rows: logits [rows, vocab] (fp32) become scale * (softmax - onehot) in place;
// returns nothing, loss[r] = lse - logits[target]; correct[r] = 1 if the target is the largest.
void cross_entropy(float* logits, const int64_t* target, float* loss, uint8_t* correct,
                   int64_t rows, int64_t vocab, float scale);

}  // namespace sutor::ops
