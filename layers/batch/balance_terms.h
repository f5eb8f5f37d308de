// What a micro-batch's load-balance loss needs to know: its weight, and of what it is a mean. It is
// the same function of the global batch however that is divided into micro-batches and over ranks.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace sutor {

// For experts e of a layer, with f_e = E x their fraction of the assignments (no gradient) and P_e
// their mean probability:
enum class BalanceOver : uint8_t {
  kSequences,  // the mean over the sequences of sum_e f_e P_e, both of one sequence
  kBatch,      // sum_e f_e P_e, both of all tokens of the global batch
};

struct BalanceTerms {
  double weight = 0;  // train.balance_loss; 0 = no load-balance loss
  BalanceOver over = BalanceOver::kSequences;
  int64_t sequences = 0;  // of the global batch
  int64_t tokens = 0;     // of the global batch
  // Over the batch: how many assignments each expert got in the global batch, int64 [layers, E];
  // undefined where every rank has one micro-batch of it: these are then counted on the way.
  at::Tensor counts{};
  // Over sequences: of this micro-batch, for the tokens that this rank routes, which of its
  // sequences each is in, int64 [T]; the tokens of each sequence, fp32 [S, 1].
  at::Tensor sequence{}, lengths{};
};

}  // namespace sutor
