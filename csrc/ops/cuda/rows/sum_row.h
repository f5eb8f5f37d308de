// The sum of one token's rows (csrc/ops/sum_rows.h), and the biases of a routed row.
#pragma once

#include "csrc/ops/cuda/rows/number.h"

namespace sutor::ops::cuda {

// y[c] = sum over j of rows[position[j]][c], in the order of j.
template <typename Block, typename T>
SUTOR_HOST_DEVICE void sum_of_rows(const Block& block, const T* rows, const int64_t* position,
                                   int64_t k, T* y, int64_t cols) {
  block.each(cols, [=](int64_t c) {
    float sum = 0;
    for (int64_t j = 0; j < k; ++j) sum += get(rows[position[j] * cols + c]);
    put(y[c], sum);
  });
}

// y[c] += weight * bias[c], rounded once.
template <typename Block, typename T>
SUTOR_HOST_DEVICE void add_bias_row(const Block& block, const T* bias, float weight, T* y,
                                    int64_t cols) {
  block.each(cols, [=](int64_t c) { put(y[c], get(y[c]) + weight * get(bias[c])); });
}

// sum += <x, bias>
template <typename Block, typename T>
SUTOR_HOST_DEVICE void add_bias_dot(const Block& block, const T* x, const T* bias, float* sum,
                                    int64_t cols) {
  const float dot =
      block.template sum<float>(cols, [=](int64_t c) { return get(x[c]) * get(bias[c]); });
  block.once([=] { *sum += dot; });
}

}  // namespace sutor::ops::cuda
