#include "csrc/ops/sum_rows.h"

#include "csrc/ops/cuda/kernels/sum_rows.h"
#include "csrc/ops/cuda/tensors.h"

namespace sutor::ops::cuda {

at::Tensor sum_rows(const at::Tensor& rows, const at::Tensor& position, int64_t num_tokens) {
  const int64_t cols = rows.size(1), k = num_tokens == 0 ? 0 : position.numel() / num_tokens;
  at::Tensor y = at::empty({num_tokens, cols}, rows.options());
  dispatch_dtype(rows.scalar_type(), [&](auto t) {
    using T = decltype(t);
    on_stream([&](cudaStream_t stream) {
      launch_sum_rows(data<T>(rows), data<int64_t>(position), data<T>(y), num_tokens, k, cols,
                      stream);
    });
  });
  return y;
}

}  // namespace sutor::ops::cuda
