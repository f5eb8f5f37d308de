// What dispatchers share: sums of a token's rows, permutations.
#pragma once

#include "layers/moe/token_dispatcher.h"

namespace sutor {

// Sums the K rows of each token, wherever they lie: y[t] = sum over k of rows[position[t * K + k]],
// in order of k, in fp32. position int64 [T * K].
at::Tensor summed_rows(const at::Tensor& rows, const at::Tensor& position, int64_t num_tokens);
at::Tensor gathered_rows(const at::Tensor& from, const at::Tensor& index);
at::Tensor inverse_permutation(const at::Tensor& permutation);
at::Tensor empty_longs(int64_t count);

}  // namespace sutor
