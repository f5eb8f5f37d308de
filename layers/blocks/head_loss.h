// Language-model head and cross entropy in one, over supervised positions only and in chunks of
// rows, so that the logits of all rows never exist at once. The forward pass computes the gradient.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "layers/parallel/tensor_parallel.h"
#include "layers/storage/parameter_store.h"

namespace sutor {

// Where hidden is; nothing of it is read on the host.
struct HeadLoss {
  at::Tensor loss_sum;    // double scalar: nats, summed over the supervised positions
  at::Tensor losses;      // fp32 [n]: nats of each supervised position, in order
  at::Tensor is_correct;  // uint8 [T]: 1 where the target has the largest logit, 0 at all others
  at::Tensor d_hidden;    // [T, H]: scale * d(loss_sum)/d(hidden); undefined without gradient
};

// hidden [T, H]; targets [T]: an id, or a negative number for no target; head weight [V, H]. With
// `gradient`: d_hidden, and the head's weight gradient is added to its main_grad when it trains.
// Softmax and loss in fp32. In a tensor-parallel group each rank has a shard of the vocabulary: the
// call is collective, and the result is the same on all ranks but for d_hidden, a partial sum.
HeadLoss head_loss(const at::Tensor& hidden, const std::vector<int64_t>& targets,
                   const Parameter& head, const TensorParallel& tensor_parallel, double scale,
                   bool gradient);

// Logits of hidden states [n, H]: fp32 [n, V] over the full vocabulary, on every rank of the group.
// Collective.
at::Tensor head_logits(const at::Tensor& hidden, const Parameter& head,
                       const TensorParallel& tensor_parallel);

}  // namespace sutor
