// The load-balance loss of an MoE layer: the factors of the router's probabilities in it. Formulas
// and words: layers/batch/balance_terms.h.
#pragma once

#include "layers/batch/forward_context.h"
#include "parallel_state/parallel_state.h"

namespace sutor {

class TensorParallel;

// `terms` for one micro-batch: with the sequences of the tokens that this rank routes.
BalanceTerms balance_terms(BalanceTerms terms, const PackedBatch& batch,
                           const TensorParallel& tensor_parallel, at::Device device);

// topk_idx: int64 [T, K] of the tokens that this rank routes. Returns fp32 [T, E] or [1, E]: the
// loss of the global batch is the sum over all tokens of factor x probability. Collective over the
// ranks that share the micro-batch, or over the stage where counts of the batch are missing.
at::Tensor balance_factors(const at::Tensor& topk_idx, int64_t experts, int layer,
                           const BalanceTerms& terms, const ParallelState& parallel);

}  // namespace sutor
