// RMS norm of one row (csrc/ops/rms_norm.h) and its input gradient.
#pragma once

#include "csrc/ops/cuda/rows/number.h"

namespace sutor::ops::cuda {

template <typename Block, typename T>
SUTOR_HOST_DEVICE void rms_norm_row(const Block& block, const T* x, const T* weight, T* y,
                                    float* rstd, int64_t cols, float eps,
                                    bool round_before_weight) {
  const float squares =
      block.template sum<float>(cols, [=](int64_t c) { return get(x[c]) * get(x[c]); });
  const float scale = quotient(1.0f, square_root(squares / static_cast<float>(cols) + eps));
  block.once([=] { *rstd = scale; });
  block.each(cols, [=](int64_t c) {
    const float normed = get(x[c]) * scale;
    put(y[c], get(weight[c]) * (round_before_weight ? rounded<T>(normed) : normed));
  });
}

template <typename Block, typename T>
SUTOR_HOST_DEVICE void rms_norm_gradient_row(const Block& block, const T* dy, const T* x,
                                             const T* weight, float rstd, T* dx, int64_t cols) {
  const float dot = block.template sum<float>(
      cols, [=](int64_t c) { return get(dy[c]) * get(weight[c]) * get(x[c]); });
  const float mean = dot * rstd * rstd / static_cast<float>(cols);
  block.each(cols, [=](int64_t c) {
    put(dx[c], rstd * (get(dy[c]) * get(weight[c]) - get(x[c]) * mean));
  });
}

}  // namespace sutor::ops::cuda
