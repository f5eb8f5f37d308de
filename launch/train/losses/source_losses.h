// The loss of each training set of a mix, beside the loss of all: for the log alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace sutor {

// losses: fp32, of the targets in order (HeadLoss::losses). targets, sources: of each token, its
// target or kNoTarget, and the number of its set, below `count`. Returns the sums of each set,
// double [count], where the losses are; the same bits at every call.
at::Tensor sums_by_source(const at::Tensor& losses, const std::vector<int64_t>& targets,
                          const std::vector<int64_t>& sources, int64_t count);

}  // namespace sutor
