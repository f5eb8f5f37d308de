#include "csrc/ops/rotary.h"

#include <ATen/ops/empty_like.h>

#include "csrc/ops/cpu/torch_ops.h"

namespace sutor::ops::cpu {

at::Tensor rotated(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                   int64_t offset, bool interleaved, bool back) {
  const int64_t tokens = x.size(0), heads = x.size(1), dim = x.size(2), width = 2 * cos.size(1);
  at::Tensor y = at::empty_like(x);
  if (x.is_meta()) return y;
  dispatch_dtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    parallel(tokens, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* from = data<T>(x) + i * heads * dim;
        T* to = data<T>(y) + i * heads * dim;
        if (width != dim) std::copy(from, from + heads * dim, to);
        rotate(from + offset, to + offset, cos.data_ptr<float>() + i * width / 2,
               sin.data_ptr<float>() + i * width / 2, heads, dim, width, back ? -1.0f : 1.0f,
               interleaved);
      }
    });
  });
  return y;
}

}  // namespace sutor::ops::cpu
