// Sends each call of a kernel to the level that this process uses.
#include <cstdlib>
#include <type_traits>

#include "csrc/ops/cpu/kernel_level.h"
#include "csrc/ops/cpu/kernels/kernel_levels.h"

namespace sutor::ops {
namespace {

const KernelLevel& chosen_level() {
  static const KernelLevel level = choose_level(kernel_levels(), std::getenv("SUTOR_KERNELS"));
  return level;
}

const KernelTable& kernels() {
  static const KernelTable table = chosen_level().table();
  return table;
}

template <typename T>
const ElementKernels<T>& kernels_of() {
  if constexpr (std::is_same_v<T, float>) {
    return kernels().of_float;
  } else {
    return kernels().of_bfloat;
  }
}

}  // namespace

const std::string& kernel_level() { return chosen_level().name; }

template <typename T>
void rms_norm_forward(const T* x, const T* w, T* y, float* rstd, int64_t rows, int64_t cols,
                      float eps, bool round_before_weight) {
  kernels_of<T>().rms_norm_forward(x, w, y, rstd, rows, cols, eps, round_before_weight);
}

template <typename T>
void rms_norm_backward(const T* dy, const T* x, const T* w, const float* rstd, T* dx, int64_t rows,
                       int64_t cols) {
  kernels_of<T>().rms_norm_backward(dy, x, w, rstd, dx, rows, cols);
}

template <typename T>
void sum_rows(const T* rows, const int64_t* position, T* y, int64_t tokens, int64_t k,
              int64_t cols) {
  kernels_of<T>().sum_rows(rows, position, y, tokens, k, cols);
}

template <typename T>
void gather_rows(const T* from, const int64_t* index, T* to, int64_t count, int64_t cols) {
  kernels_of<T>().gather_rows(from, index, to, count, cols);
}

template <typename T>
void load_rows(const T* from, int64_t from_stride, float* to, int64_t to_stride, int64_t rows,
               int64_t cols) {
  kernels_of<T>().load_rows(from, from_stride, to, to_stride, rows, cols);
}

template <typename T>
void store_rows(const float* from, int64_t from_stride, T* to, int64_t to_stride, int64_t rows,
                int64_t cols) {
  kernels_of<T>().store_rows(from, from_stride, to, to_stride, rows, cols);
}

template <typename T>
void rotate(const T* from, T* to, const float* cos, const float* sin, int64_t heads,
            int64_t head_stride, int64_t width, float sign, bool interleaved) {
  kernels_of<T>().rotate(from, to, cos, sin, heads, head_stride, width, sign, interleaved);
}

template <typename T>
void activation_forward(const GatedActivation& act, const T* gate, const T* up, int64_t stride,
                        const float* weight, T* out, int64_t rows, int64_t width) {
  kernels_of<T>().activation_forward(act, gate, up, stride, weight, out, rows, width);
}

template <typename T>
void activation_backward(const GatedActivation& act, const T* gate, const T* up, int64_t stride,
                         const float* weight, const T* d_out, T* d_gate, T* d_up, T* out,
                         float* d_weight, int64_t rows, int64_t width) {
  kernels_of<T>().activation_backward(act, gate, up, stride, weight, d_out, d_gate, d_up, out,
                                      d_weight, rows, width);
}

template <typename T>
void transpose_back(const float* from, int64_t from_stride, int64_t cols, int64_t rows, T* to,
                    int64_t to_stride) {
  kernels_of<T>().transpose_back(from, from_stride, cols, rows, to, to_stride);
}

#define SUTOR_INSTANTIATE(T)                                                                   \
  template void rms_norm_forward<T>(const T*, const T*, T*, float*, int64_t, int64_t, float,   \
                                    bool);                                                     \
  template void rms_norm_backward<T>(const T*, const T*, const T*, const float*, T*, int64_t,  \
                                     int64_t);                                                 \
  template void sum_rows<T>(const T*, const int64_t*, T*, int64_t, int64_t, int64_t);          \
  template void gather_rows<T>(const T*, const int64_t*, T*, int64_t, int64_t);                \
  template void load_rows<T>(const T*, int64_t, float*, int64_t, int64_t, int64_t);            \
  template void store_rows<T>(const float*, int64_t, T*, int64_t, int64_t, int64_t);           \
  template void rotate<T>(const T*, T*, const float*, const float*, int64_t, int64_t, int64_t, \
                          float, bool);                                                        \
  template void activation_forward<T>(const GatedActivation&, const T*, const T*, int64_t,     \
                                      const float*, T*, int64_t, int64_t);                     \
  template void activation_backward<T>(const GatedActivation&, const T*, const T*, int64_t,    \
                                       const float*, const T*, T*, T*, T*, float*, int64_t,    \
                                       int64_t);                                               \
  template void transpose_back<T>(const float*, int64_t, int64_t, int64_t, T*, int64_t);
SUTOR_INSTANTIATE(float)
SUTOR_INSTANTIATE(BFloat)
#undef SUTOR_INSTANTIATE

double sum_of_squares(const float* x, int64_t count) { return kernels().sum_of_squares(x, count); }

void causal_softmax(float* s, int64_t rows, int64_t cols, const CausalMask& mask, float scale,
                    float* lse, float sink) {
  kernels().causal_softmax(s, rows, cols, mask, scale, lse, sink);
}

void causal_probabilities(float* s, int64_t rows, int64_t cols, const CausalMask& mask, float scale,
                          const float* lse) {
  kernels().causal_probabilities(s, rows, cols, mask, scale, lse);
}

void softmax_backward(const float* p, float* dp, const float* delta, int64_t rows, int64_t cols,
                      float scale) {
  kernels().softmax_backward(p, dp, delta, rows, cols, scale);
}

void row_dots(const float* a, const float* b, float* delta, int64_t rows, int64_t cols) {
  kernels().row_dots(a, b, delta, rows, cols);
}

void cross_entropy(float* logits, const int64_t* target, float* loss, uint8_t* correct,
                   int64_t rows, int64_t vocab, float scale) {
  kernels().cross_entropy(logits, target, loss, correct, rows, vocab, scale);
}

void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t cols, float* to,
               int64_t to_stride) {
  kernels().transpose(from, from_stride, rows, cols, to, to_stride);
}

void interleave_pairs(const BFloat* from, int64_t from_stride, int64_t rows, int64_t cols,
                      uint32_t* to) {
  kernels().interleave_pairs(from, from_stride, rows, cols, to);
}

void adamw_bf16_step(const AdamWBf16Step& step, uint64_t first, BFloat* weight, BFloat* exp_avg,
                     BFloat* exp_avg_sq, const float* grad, int64_t count) {
  kernels().adamw_bf16_step(step, first, weight, exp_avg, exp_avg_sq, grad, count);
}

}  // namespace sutor::ops
