// Attention by plain matrix products in fp32, a few queries at a time: slow and exact, of any
// device. It has everything that attention.h asks for, and serves what a device has no kernel for.
#pragma once

#include "csrc/ops/attention.h"

namespace sutor::ops {

// lse is always filled in.
Attended attention_by_products(const AttentionInputs& in, const AttentionRuns& runs);
AttentionGradients attention_gradients_by_products(const AttentionInputs& in,
                                                   const AttentionRuns& runs,
                                                   const Attended& forward,
                                                   const at::Tensor& d_out);

}  // namespace sutor::ops
