// The operators on tensors without values: each makes the tensors that the operator of the same
// name in csrc/ops/cpu makes, scratch of its threads included, or that in csrc/ops/cuda where
// is_planned_for_gpu(), and computes nothing. A dry run
// of a training step through them counts the memory of the real one. What an operator allocates and
// its twin here are changed together: tests/e2e/plan_test.py compares them.
#pragma once

#include "csrc/ops/attention.h"
#include "csrc/ops/expert_mlp.h"
#include "csrc/ops/row_order.h"

namespace sutor::ops::shapes {

Attended attention(const AttentionInputs& in, const AttentionRuns& runs);
AttentionGradients attention_gradients(const AttentionInputs& in, const AttentionRuns& runs);

// in.offsets has values, and is in host memory.
at::Tensor expert_mlp(const ExpertRows& in, const ExpertWeights& experts, ExpertsSaved* saved);
ExpertsGradients expert_mlp_backward(const ExpertRows& in, const ExpertWeights& experts,
                                     const ExpertsSaved& saved, const at::Tensor& d_source,
                                     bool want_rows, bool want_weights);

// The offsets have values, by planned_counts(); so has slot_of_number, unless every number is its
// own slot.
RowOrder order_by_slot(const at::Tensor& number, const at::Tensor& slot_of_number, int64_t slots);

// Registers torch's own operators that torch lacks for such tensors. Any number of times.
void register_torch_shapes();

// Scratch of units of work that the threads share out: that of the largest of them which can run at
// a time. Lives as long as the result.
at::Tensor unit_scratch(std::vector<int64_t> unit_bytes);

}  // namespace sutor::ops::shapes
