#include "layers/moe/dispatch_rows.h"

#include <numeric>

#include "csrc/ops/cpu/torch_ops.h"

namespace sutor {

at::Tensor summed_rows(const at::Tensor& rows, const at::Tensor& position_TK, int64_t num_tokens) {
  const int64_t hidden = rows.size(1);
  const int64_t top_k = num_tokens == 0 ? 0 : position_TK.numel() / num_tokens;
  at::Tensor y = at::empty({num_tokens, hidden}, rows.options());
  const int64_t* position = position_TK.data_ptr<int64_t>();
  ops::dispatch_dtype(rows.scalar_type(), [&](auto t) {
    using T = decltype(t);
    ops::parallel(num_tokens, 16, [&](int64_t begin, int64_t end) {
      ops::sum_rows(ops::data<T>(rows), position + begin * top_k, ops::data<T>(y) + begin * hidden,
                    end - begin, top_k, hidden);
    });
  });
  return y;
}

at::Tensor exchanged_rows(const at::Tensor& rows, const std::vector<int64_t>& send_rows,
                          const std::vector<int64_t>& recv_rows, Comm& comm, const char* name) {
  std::vector<int64_t> shape = rows.sizes().vec();
  shape[0] = std::accumulate(recv_rows.begin(), recv_rows.end(), int64_t{0});
  at::Tensor received = at::empty(shape, rows.options());
  const int64_t row_bytes =
      (rows.dim() == 1 ? 1 : rows.size(1)) * static_cast<int64_t>(rows.element_size());
  comm.all_to_all(rows.data_ptr(), send_rows, received.data_ptr(), recv_rows, row_bytes, name);
  return received;
}

at::Tensor gathered_rows(const at::Tensor& from, const at::Tensor& index) {
  return at::index_select(from, 0, index);
}

at::Tensor inverse_permutation(const at::Tensor& permutation) {
  at::Tensor result = empty_longs(permutation.numel());
  const int64_t* from = permutation.data_ptr<int64_t>();
  int64_t* to = result.data_ptr<int64_t>();
  for (int64_t i = 0; i < permutation.numel(); ++i) to[from[i]] = i;
  return result;
}

at::Tensor empty_longs(int64_t count) { return at::empty({count}, at::kLong); }

}  // namespace sutor
