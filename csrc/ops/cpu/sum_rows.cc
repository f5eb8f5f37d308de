#include "csrc/ops/sum_rows.h"

#include <ATen/ops/empty.h>

#include "csrc/ops/cpu/torch_ops.h"

namespace sutor::ops::cpu {

at::Tensor sum_rows(const at::Tensor& rows, const at::Tensor& position_TK, int64_t num_tokens) {
  const int64_t hidden = rows.size(1);
  const int64_t top_k = num_tokens == 0 ? 0 : position_TK.numel() / num_tokens;
  at::Tensor y = at::empty({num_tokens, hidden}, rows.options());
  if (rows.is_meta()) return y;
  const int64_t* position = position_TK.data_ptr<int64_t>();
  dispatch_dtype(rows.scalar_type(), [&](auto t) {
    using T = decltype(t);
    parallel(num_tokens, 16, [&](int64_t begin, int64_t end) {
      ops::sum_rows(data<T>(rows), position + begin * top_k, data<T>(y) + begin * hidden,
                    end - begin, top_k, hidden);
    });
  });
  return y;
}

}  // namespace sutor::ops::cpu
