// What dispatchers share: exchanges of rows, and numbers that the host reads.
#pragma once

#include "layers/moe/token_dispatcher.h"

namespace sutor {

// Rows of every rank for every other: send_rows[r] of `rows` go to rank r, recv_rows[r] come from
// it, both in the order of ranks. Collective.
at::Tensor exchanged_rows(const at::Tensor& rows, const std::vector<int64_t>& send_rows,
                          const std::vector<int64_t>& recv_rows, Comm& comm, const char* name);
at::Tensor gathered_rows(const at::Tensor& from, const at::Tensor& index);
// The tensor's values on the host: the one read of a layer.
std::vector<int64_t> host_longs(const at::Tensor& values);

}  // namespace sutor
