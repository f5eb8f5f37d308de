#include "csrc/ops/rotary.h"

#include "csrc/ops/cuda/kernels/rotary.h"
#include "csrc/ops/cuda/tensors.h"

namespace sutor::ops::cuda {

at::Tensor rotated(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                   int64_t offset, bool interleaved, bool back) {
  const RotaryShape shape{.heads = static_cast<int>(x.size(1)),
                          .head_dim = static_cast<int>(x.size(2)),
                          .offset = static_cast<int>(offset),
                          .half = static_cast<int>(cos.size(1)),
                          .interleaved = interleaved,
                          .back = back};
  at::Tensor y = at::empty_like(x);
  dispatch_dtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    on_stream([&](cudaStream_t stream) {
      launch_rotary(shape, data<T>(x), data<float>(cos), data<float>(sin), data<T>(y), x.size(0),
                    stream);
    });
  });
  return y;
}

}  // namespace sutor::ops::cuda
