#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "csrc/ops/device/planned_device.h"
#include "csrc/ops/shapes/planned_routing.h"
#include "csrc/ops/shapes/shapes.h"

namespace sutor::ops::shapes {
namespace {

constexpr int64_t kQueryBlock = 128;  // as in csrc/ops/cpu/attention.cc
constexpr int64_t kFloatBytes = 4;

// Pairs of a query and a key that it sees, times the width of a head's key and value.
void count_products(const AttentionInputs& in, const AttentionRuns& runs, double factor) {
  double pairs = 0;
  for (size_t run = 0; run < runs.size(); ++run) {
    const auto queries = static_cast<double>(runs.offsets[run + 1] - runs.offsets[run]);
    auto keys = static_cast<double>(runs.keys.counts[run]);
    keys -= (queries - 1) / 2;  // on average
    if (in.sliding_window > 0) keys = std::min(keys, static_cast<double>(in.sliding_window));
    pairs += queries * keys;
  }
  const auto widths = static_cast<double>(in.q.size(2) + in.v.size(2));
  add_attention_products(factor * pairs * static_cast<double>(in.q.size(1)) * widths);
}

// What the GPU's attention makes beside its results, `copies` times: keys with their shared part,
// values, outputs and gradients as wide as the queries, and where plain products serve, scores.
at::Tensor gpu_scratch(const AttentionInputs& in, int64_t copies) {
  if (!is_planned_for_gpu()) return {};
  constexpr int64_t kScores = int64_t{1} << 25;  // as in csrc/ops/attention_by_products.cc
  const at::Tensor& q = in.q;
  const int64_t width = q.size(2), element = static_cast<int64_t>(q.element_size());
  int64_t bytes = 0;
  if (in.k_shared.defined()) bytes += copies * in.k.size(0) * in.k.size(1) * width * element;
  if (in.v.size(2) != width) bytes += copies * in.v.size(0) * q.size(1) * width * element;
  const bool flash = q.scalar_type() != at::kFloat && !in.sinks.defined() && width <= 256;
  if (!flash) {
    bytes += (copies + 1) * kFloatBytes * std::min(kScores, q.size(1) * q.size(0) * in.k.size(0));
  }
  return at::empty({bytes}, q.options().dtype(at::kByte));
}

}  // namespace

Attended attention(const AttentionInputs& in, const AttentionRuns& runs) {
  const at::Tensor& q = in.q;
  const int64_t widths = q.size(2) + in.v.size(2);
  const at::Tensor scratch = gpu_scratch(in, 1);
  const Attended result{at::empty({q.size(0), q.size(1), in.v.size(2)}, q.options()),
                        at::empty({q.size(1), q.size(0)}, q.options().dtype(at::kFloat))};
  std::vector<int64_t> units;
  for (size_t run = 0; run < runs.size(); ++run) {
    const int64_t queries = runs.offsets[run + 1] - runs.offsets[run];
    if (queries == 0) continue;
    const int64_t keys = runs.keys.counts[run], block = std::min(queries, kQueryBlock);
    const int64_t floats = (keys + block) * widths + block * keys;
    units.insert(units.end(), static_cast<size_t>(in.k.size(1)), floats * kFloatBytes);
  }
  if (!is_planned_for_gpu()) unit_scratch(std::move(units));
  count_products(in, runs, 1);
  return result;
}

AttentionGradients attention_gradients(const AttentionInputs& in, const AttentionRuns& runs) {
  const at::Tensor& q = in.q;
  const at::Tensor scratch = gpu_scratch(in, 3);
  AttentionGradients grads{at::empty(q.sizes(), q.options()),
                           at::empty(in.k.sizes(), in.k.options()),
                           {},
                           at::empty(in.v.sizes(), in.v.options())};
  at::Tensor shared;
  if (in.k_shared.defined()) {
    shared = at::empty({in.k.size(1), in.k_shared.size(0), in.k_shared.size(1)},
                       q.options().dtype(at::kFloat));
  }
  const int64_t widths = q.size(2) + in.v.size(2);
  std::vector<int64_t> units;
  for (size_t run = 0; run < runs.size();) {
    int64_t keys = runs.keys.counts[run];  // of the runs that begin at the same key
    const int64_t first = runs.keys.begins[run];
    for (++run; run < runs.size() && runs.keys.begins[run] == first; ++run) {
      keys = std::max(keys, runs.keys.counts[run]);
    }
    if (keys == 0) continue;
    const int64_t floats = 2 * (keys + kQueryBlock) * widths + 2 * kQueryBlock * keys;
    units.insert(units.end(), static_cast<size_t>(in.k.size(1)), floats * kFloatBytes);
  }
  if (!is_planned_for_gpu()) unit_scratch(std::move(units));
  count_products(in, runs, 2.5);  // five products of matrices, two in the forward pass
  if (shared.defined()) grads.k_shared = shared.sum(0).to(q.scalar_type());
  return grads;
}

}  // namespace sutor::ops::shapes
