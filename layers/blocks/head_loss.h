// Language-model head and cross entropy in one, in chunks of rows, over supervised positions only;
// logits are never held whole. The gradient comes out of the forward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "layers/parallel/tensor_parallel.h"
#include "layers/storage/parameter_store.h"

namespace sutor {

struct HeadLoss {
  double loss_sum = 0;              // nats, summed over the supervised positions
  int64_t correct = 0;              // positions whose target has the largest logit
  std::vector<uint8_t> is_correct;  // [T]: 1 where it has, 0 elsewhere and without a target
  at::Tensor d_hidden;  // [T, H]: scale * d(loss_sum)/d(hidden); undefined without gradient
};

// hidden [T, H]; targets: id or a negative number for no target, [T]; head weight [V, H]. With
// `gradient`: d_hidden, and the head's weight gradient into its main_grad when it trains.
// Softmax and loss in fp32. Over a tensor-parallel group a rank has a part of the vocabulary: the
// call is collective, the result the same on all ranks but d_hidden, which is a rank's summand.
HeadLoss head_loss(const at::Tensor& hidden, const std::vector<int64_t>& targets,
                   const Parameter& head, const TensorParallel& tensor_parallel, double scale,
                   bool gradient);

// Logits of rows [R, H]: fp32 [R, vocab] on every rank of the group. Collective.
at::Tensor head_logits(const at::Tensor& hidden, const Parameter& head,
                       const TensorParallel& tensor_parallel);

}  // namespace sutor
