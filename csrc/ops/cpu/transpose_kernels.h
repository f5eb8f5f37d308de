// Matrices turned round by squares of sixteen: serial, without torch; T as in row_kernels.h.
#pragma once

#include <cstdint>

#include "csrc/ops/cpu/row_kernels.h"

namespace sutor::ops {

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

}  // namespace sutor::ops
