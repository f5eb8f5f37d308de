#include "launch/train/losses/source_losses.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "csrc/ops/device/host_window.h"
#include "csrc/ops/exact_sum.h"
#include "launch/data/micro_batch.h"

namespace sutor {

at::Tensor sums_by_source(const at::Tensor& losses, const std::vector<int64_t>& targets,
                          const std::vector<int64_t>& sources, int64_t count) {
  at::NoGradGuard no_grad;
  std::vector<std::vector<int64_t>> places(static_cast<size_t>(count));  // in `losses`
  int64_t place = 0;
  for (size_t t = 0; t < targets.size(); ++t) {
    if (targets[t] != kNoTarget) places[static_cast<size_t>(sources[t])].push_back(place++);
  }
  std::vector<at::Tensor> sums;
  for (const std::vector<int64_t>& own : places) {
    sums.push_back(own.empty() ? at::zeros({}, losses.options().dtype(at::kDouble))
                               : ops::sum_in_order(
                                     losses.index_select(0, ops::longs_on(own, losses.device()))));
  }
  return at::stack(sums);
}

}  // namespace sutor
