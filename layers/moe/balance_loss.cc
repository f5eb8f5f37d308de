#include "layers/moe/balance_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include "csrc/ops/device/host_window.h"
#include "csrc/ops/number_counts.h"
#include "layers/parallel/row_collectives.h"
#include "layers/parallel/tensor_parallel.h"

namespace sutor {
namespace {

// A sequence of n tokens: weight / sequences x (E / (K n) counts_e) x sum of probabilities / n.
at::Tensor sequence_factors(const at::Tensor& topk_idx, int64_t experts, const BalanceTerms& terms,
                            Comm& batch_ranks) {
  const int64_t sequences = terms.lengths.size(0), top_k = topk_idx.size(1);
  if (sequences == 0) return at::zeros({0, experts}, terms.lengths.options());
  const at::Tensor cells = topk_idx + terms.sequence.unsqueeze(1) * experts;
  const at::Tensor counts = ops::number_counts(cells, sequences * experts);
  reduce_in_place(counts, ReduceOp::kSum, batch_ranks, "balance loss");
  const double scale =
      terms.weight * static_cast<double>(experts) / static_cast<double>(top_k * terms.sequences);
  const at::Tensor factors = counts.view({sequences, experts})
                                 .to(at::kFloat)
                                 .div_(terms.lengths)
                                 .div_(terms.lengths)
                                 .mul_(scale);
  return factors.index_select(0, terms.sequence);
}

at::Tensor batch_factors(const at::Tensor& topk_idx, int64_t experts, int layer,
                         const BalanceTerms& terms, Comm& stage_ranks) {
  at::Tensor counts;
  if (terms.counts.defined()) {
    counts = terms.counts[layer];
  } else {
    counts = ops::number_counts(topk_idx, experts);
    reduce_in_place(counts, ReduceOp::kSum, stage_ranks, "balance loss");
  }
  const double n = static_cast<double>(terms.tokens);
  const double scale =
      terms.weight * static_cast<double>(experts) / (static_cast<double>(topk_idx.size(1)) * n * n);
  return counts.to(at::kDouble).mul_(scale).to(at::kFloat).unsqueeze(0);
}

}  // namespace

BalanceTerms balance_terms(BalanceTerms terms, const PackedBatch& batch,
                           const TensorParallel& tensor_parallel, at::Device device) {
  if (terms.weight == 0 || terms.over != BalanceOver::kSequences) return terms;
  const BatchSequences sequences = sequences_of(batch);
  const IndexRange own = tensor_parallel.rows_of(batch.num_tokens());
  const auto begin = sequences.of_token.begin();
  terms.sequence = ops::longs_on({begin + own.begin, begin + own.end}, device);
  terms.lengths = ops::longs_on(sequences.lengths, device).to(at::kFloat).unsqueeze(1);
  return terms;
}

at::Tensor balance_factors(const at::Tensor& topk_idx, int64_t experts, int layer,
                           const BalanceTerms& terms, const ParallelState& parallel) {
  if (terms.over == BalanceOver::kBatch) {
    return batch_factors(topk_idx, experts, layer, terms, parallel.tp_dp_cp());
  }
  return sequence_factors(topk_idx, experts, terms, parallel.tp_cp());
}

}  // namespace sutor
