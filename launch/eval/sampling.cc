#include "launch/eval/sampling.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>

#include <cmath>

#include "csrc/base/random.h"

namespace sutor {
namespace {

// In [0, 1).
double uniform(uint64_t seed, int64_t prompt, int64_t position) {
  uint64_t state = mix64(seed + kGolden64);
  state = mix64(state + kGolden64 * (static_cast<uint64_t>(prompt) + 1));
  state = mix64(state + kGolden64 * (static_cast<uint64_t>(position) + 1));
  return unit_of(state);
}

}  // namespace

int64_t choose_token(const at::Tensor& logits, const GenerateOptions& options, int64_t prompt,
                     int64_t position) {
  if (options.temperature == 0) return logits.argmax().item<int64_t>();
  const at::Tensor probabilities =
      at::softmax(logits.to(at::kDouble) / options.temperature, 0, at::kDouble);
  const auto [sorted, order] = at::sort(probabilities, /*stable=*/true, 0, /*descending=*/true);
  const double* p = sorted.data_ptr<double>();
  const int64_t count = sorted.numel();
  int64_t kept = 0;
  double mass = 0;  // probability of the kept tokens
  while (kept < count && (kept == 0 || mass < options.top_p)) mass += p[kept++];
  const double drawn = uniform(options.seed, prompt, position) * mass;
  double sum = 0;
  int64_t chosen = 0;
  for (int64_t i = 0; i < kept; ++i) {
    chosen = i;
    sum += p[i];
    if (drawn < sum) break;
  }
  return order[chosen].item<int64_t>();
}

}  // namespace sutor
