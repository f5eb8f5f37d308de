// What dispatchers share: sums of a token's rows, exchanges of rows, permutations.
#pragma once

#include "layers/moe/token_dispatcher.h"

namespace sutor {

// Sums the K rows of each token, wherever they lie: y[t] = sum over k of rows[position[t * K + k]],
// in order of k, in fp32. position int64 [T * K].
at::Tensor summed_rows(const at::Tensor& rows, const at::Tensor& position, int64_t num_tokens);
// Rows of every rank for every other: send_rows[r] of `rows` go to rank r, recv_rows[r] come from
// it, both in the order of ranks. Collective.
at::Tensor exchanged_rows(const at::Tensor& rows, const std::vector<int64_t>& send_rows,
                          const std::vector<int64_t>& recv_rows, Comm& comm, const char* name);
at::Tensor gathered_rows(const at::Tensor& from, const at::Tensor& index);
at::Tensor inverse_permutation(const at::Tensor& permutation);
at::Tensor empty_longs(int64_t count);

}  // namespace sutor
