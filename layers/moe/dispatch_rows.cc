#include "layers/moe/dispatch_rows.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>

#include <numeric>

namespace sutor {

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

std::vector<int64_t> host_longs(const at::Tensor& values) {
  const at::Tensor host = values.cpu().contiguous();
  const int64_t* data = host.data_ptr<int64_t>();
  return {data, data + host.numel()};
}

}  // namespace sutor
