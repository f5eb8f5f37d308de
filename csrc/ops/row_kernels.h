// Arithmetic on rows of memory: the inner loops of the blocks, serial and without torch, so that
// the compiler may vectorise them for the machine. Callers split rows over threads. All sums are
// fp32. T is float or BFloat (bf16 bits); both are instantiated in row_kernels.cc.
#pragma once

#include <cstdint>
#include <limits>

namespace sutor::ops {

struct BFloat {
  uint16_t bits;
};

// y = w * T(x * rstd), or T(w * x * rstd) when it is not rounded before the weight; rstd =
// 1/sqrt(mean(x^2) + eps); x, y [rows, cols], rstd [rows].
template <typename T>
void rms_norm_forward(const T* x, const T* w, T* y, float* rstd, int64_t rows, int64_t cols,
                      float eps, bool round_before_weight);
// dx of the above.
template <typename T>
void rms_norm_backward(const T* dy, const T* x, const T* w, const float* rstd, T* dx, int64_t rows,
                       int64_t cols);

// What joins the two halves of an MLP: act(gate, up) = (u + up_offset) * g * sigmoid(alpha * g),
// where g = min(gate, limit) and u = clamp(up, -limit, limit). As it stands here it is SwiGLU's.
struct GatedActivation {
  float alpha = 1, limit = std::numeric_limits<float>::infinity(), up_offset = 0;
  bool is_swiglu() const { return alpha == 1 && up_offset == 0 && !(limit < 1e30f); }
};

// out[n, i] = weight[n] * act(gate[n, i], up[n, i]); gate and up have their own row strides.
// weight may be null (1).
template <typename T>
void activation_forward(const GatedActivation& act, const T* gate, const T* up, int64_t stride,
                        const float* weight, T* out, int64_t rows, int64_t width);
// From d_out, the gradient of weight * act(gate, up). Writes d_gate and d_up (row stride
// `stride`), the forward output again if `out` is not null, and d_weight[n] = <d_out, act(gate,
// up)> if it is not null. d_gate / d_up may be null when only the others are wanted.
template <typename T>
void activation_backward(const GatedActivation& act, const T* gate, const T* up, int64_t stride,
                         const float* weight, const T* d_out, T* d_gate, T* d_up, T* out,
                         float* d_weight, int64_t rows, int64_t width);

// y[t] = sum over j of rows[position[t * k + j]], summed in order of j in fp32.
template <typename T>
void sum_rows(const T* rows, const int64_t* position, T* y, int64_t tokens, int64_t k,
              int64_t cols);

// to[i] = from[index[i]]
template <typename T>
void gather_rows(const T* from, const int64_t* index, T* to, int64_t count, int64_t cols);

// Copies rows with strides, converting to fp32 or back. `scale` multiplies.
template <typename T>
void load_rows(const T* from, int64_t from_stride, float* to, int64_t to_stride, int64_t rows,
               int64_t cols);
template <typename T>
void store_rows(const float* from, int64_t from_stride, T* to, int64_t to_stride, int64_t rows,
                int64_t cols);

// to[c, r] = from[r, c] for the `rows` x `cols` words of `from`; the row of `to` is to_stride long,
// and what lies beyond `rows` in it becomes 0. Words are moved as bits: they need not be floats.
void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t cols, float* to,
               int64_t to_stride);
// to[r, c] = T(from[c, r]): from [cols, from_stride], of which the first `rows` of every row count.
template <typename T>
void transpose_back(const float* from, int64_t from_stride, int64_t cols, int64_t rows, T* to,
                    int64_t to_stride);
// to[p, c] = the pair (from[2p, c], from[2p + 1, c]) in one word: [rows / 2, cols]. rows is even.
void interleave_pairs(const BFloat* from, int64_t from_stride, int64_t rows, int64_t cols,
                      uint32_t* to);

// Which columns row r of a block of attention scores sees: the last `window` of 0 .. first_visible
// + r.
struct CausalMask {
  int64_t first_visible = 0;
  int64_t window = std::numeric_limits<int64_t>::max();
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

// Rotates `heads` vectors of `width` at the given row; cos, sin [width / 2]. sign -1 turns back.
// interleaved: pairs (2j, 2j+1), else (j, j + width/2). from and to may be equal.
template <typename T>
void rotate(const T* from, T* to, const float* cos, const float* sin, int64_t heads,
            int64_t head_stride, int64_t width, float sign, bool interleaved);

// Cross entropy of rows: logits [rows, vocab] (fp32) become scale * (softmax - onehot) in place;
// returns nothing, loss[r] = lse - logits[target]; correct[r] = 1 if the target is the largest.
void cross_entropy(float* logits, const int64_t* target, float* loss, uint8_t* correct,
                   int64_t rows, int64_t vocab, float scale);

// Sum of squares in double.
double sum_of_squares(const float* x, int64_t count);

}  // namespace sutor::ops
