// Arithmetic on rows of memory: the inner loops of the blocks, serial and without torch, so that
// the compiler may vectorise them for the machine. Callers split rows over threads. All sums are
// fp32. T is float or BFloat (bf16 bits); both are instantiated in the .cc files.
#pragma once

#include <cstdint>

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

// Rotates `heads` vectors of `width` at the given row; cos, sin [width / 2]. sign -1 turns back.
// interleaved: pairs (2j, 2j+1), else (j, j + width/2). from and to may be equal.
template <typename T>
void rotate(const T* from, T* to, const float* cos, const float* sin, int64_t heads,
            int64_t head_stride, int64_t width, float sign, bool interleaved);

// Sum of squares in double.
double sum_of_squares(const float* x, int64_t count);

}  // namespace sutor::ops
