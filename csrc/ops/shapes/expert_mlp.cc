#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <span>

#include "csrc/ops/device/planned_device.h"
#include "csrc/ops/shapes/shapes.h"

namespace sutor::ops::shapes {
namespace {

constexpr int64_t kUnitRows = 512;  // as in csrc/ops/cpu/expert_mlp.cc
constexpr int64_t kFloat = 4;       // bytes
constexpr int64_t kMostOfMean = 4;  // what the busiest expert gets at most, as a rule

struct Sizes {
  Sizes(const ExpertRows& in, const ExpertWeights& experts, int64_t element_bytes)
      : offsets(in.offsets.data_ptr<int64_t>(), static_cast<size_t>(in.offsets.numel())),
        rows(offsets.back()),
        trainable_rows(offsets[static_cast<size_t>(experts.num_trainable())]),
        hidden(experts.hidden),
        width(experts.width),
        element(element_bytes) {}

  std::span<const int64_t> offsets;
  int64_t rows, trainable_rows, hidden, width, element;
};

int64_t lora_rank(const ExpertWeights& experts, int64_t slot) {
  const ExpertLora* lora = experts.lora_of(slot);
  return lora == nullptr ? 0 : lora->gate.a.size(0);
}

bool adds_down_bias(const ExpertWeights& experts) {
  return experts.has_biases && experts.adds_down_bias;
}

// Products of bf16 stand apart before they are added to a gradient in fp32.
void weight_gradients(const Sizes& sizes, const ExpertWeights& experts) {
  if (sizes.element == kFloat) return;
  const int64_t threads = std::max(1, at::get_num_threads());
  const int64_t bands = threads > 1 && experts.num_trained < 4 * threads ? threads : 1;
  std::vector<int64_t> units;
  for (int64_t slot = 0; slot < experts.num_trained; ++slot) {
    if (sizes.offsets[slot + 1] == sizes.offsets[slot]) continue;
    for (int64_t b = 0; b < bands; ++b) {
      units.push_back(2 * sizes.width / bands * sizes.hidden * sizes.element);
      units.push_back(sizes.hidden / bands * sizes.width * sizes.element);
    }
  }
  unit_scratch(std::move(units));
}

// One expert after the other, by the thread that calls.
void bias_gradients(const ExpertRows& in, const Sizes& sizes, const ExpertWeights& experts) {
  int64_t most = 0;
  for (int64_t slot = 0; slot < experts.num_trained; ++slot) {
    most = std::max(most, sizes.offsets[slot + 1] - sizes.offsets[slot]);
  }
  most = std::min({kMostOfMean * most, in.source.size(0), sizes.trainable_rows});
  const int64_t widest = std::max(2 * sizes.width, sizes.hidden);
  unit_scratch({most * widest * (sizes.element == kFloat ? 0 : kFloat) +
                (2 * sizes.width + sizes.hidden) * kFloat});
}

// What the units of `rows` rows take that are computed at a time, a unit `row_bytes(slot)` a row
// and `unit_bytes` besides. How full the largest are depends on the routing of one micro-batch,
// which no shares tell: they are taken to be full.
template <typename F>
void row_units(int64_t rows, int64_t end_slot, const F& row_bytes, int64_t unit_bytes) {
  int64_t most = 0;
  for (int64_t slot = 0; slot < end_slot; ++slot) most = std::max(most, row_bytes(slot));
  const int64_t threads = std::max(1, at::get_num_threads());
  unit_scratch({std::min(rows, threads * kUnitRows) * most + threads * unit_bytes});
}

// All rows of all slots at a time.
at::Tensor expert_mlp_of_gpu(const ExpertRows& in, const ExpertWeights& experts,
                             ExpertsSaved* saved) {
  const int64_t rows = in.row_index_R.size(0);
  const at::Tensor x = in.source.index_select(0, in.row_index_R);
  const at::Tensor gate_up = at::empty({rows, 2 * experts.width}, x.options());
  const at::Tensor act = at::empty({rows, experts.width}, x.options());
  at::Tensor y = at::empty({rows, experts.hidden}, x.options());
  if (saved) *saved = {.gate_up = gate_up, .inputs = in.source};
  return y;
}

ExpertsGradients expert_mlp_backward_of_gpu(const ExpertRows& in, const ExpertWeights& experts,
                                            const ExpertsSaved& saved, const at::Tensor& d_source,
                                            bool want_rows, bool want_weights) {
  const auto options = d_source.options();
  const int64_t rows = in.row_index_R.size(0);
  ExpertsGradients result;
  if (want_weights) result.weights_R = at::empty({rows}, options.dtype(at::kFloat));
  if (!want_rows && !want_weights && experts.num_trainable() == 0) return result;
  const at::Tensor dy = d_source.index_select(0, in.row_index_R);
  const at::Tensor d_act = at::empty({rows, experts.width}, options);
  const at::Tensor d_gate_up = at::empty({rows, 2 * experts.width}, options);
  if (want_rows) result.rows = at::empty({rows, experts.hidden}, options);
  if (experts.num_trainable() > 0) saved.inputs.index_select(0, in.row_index_R);
  return result;
}

}  // namespace

at::Tensor unit_scratch(std::vector<int64_t> unit_bytes) {
  const auto at_a_time =
      std::min(unit_bytes.size(), static_cast<size_t>(std::max(1, at::get_num_threads())));
  const auto end = unit_bytes.begin() + static_cast<std::ptrdiff_t>(at_a_time);
  std::partial_sort(unit_bytes.begin(), end, unit_bytes.end(), std::greater<>());
  int64_t bytes = 0;
  for (auto it = unit_bytes.begin(); it != end; ++it) bytes += *it;
  return at::empty({bytes}, at::TensorOptions().dtype(at::kByte).device(at::kMeta));
}

at::Tensor expert_mlp(const ExpertRows& in, const ExpertWeights& experts, ExpertsSaved* saved) {
  if (is_planned_for_gpu()) return expert_mlp_of_gpu(in, experts, saved);
  const Sizes sizes(in, experts, static_cast<int64_t>(in.source.element_size()));
  at::Tensor y = at::empty({sizes.rows, sizes.hidden}, in.source.options());
  if (saved) {
    saved->gate_up = at::empty({sizes.rows, 2 * sizes.width}, in.source.options());
    saved->inputs = at::empty({sizes.trainable_rows, sizes.hidden}, in.source.options());
  }
  const int64_t bias_bytes = adds_down_bias(experts) ? sizes.hidden * kFloat : 0;
  const auto row_bytes = [&](int64_t slot) {
    const int64_t elements =
        sizes.hidden + (saved ? 1 : 3) * sizes.width + lora_rank(experts, slot);
    return elements * sizes.element + bias_bytes;
  };
  row_units(sizes.rows, experts.num_local, row_bytes, bias_bytes);
  return y;
}

ExpertsGradients expert_mlp_backward(const ExpertRows& in, const ExpertWeights& experts,
                                     const ExpertsSaved& saved, const at::Tensor& d_source,
                                     bool want_rows, bool want_weights) {
  if (is_planned_for_gpu()) {
    return expert_mlp_backward_of_gpu(in, experts, saved, d_source, want_rows, want_weights);
  }
  const auto options = d_source.options();
  const Sizes sizes(in, experts, static_cast<int64_t>(d_source.element_size()));
  ExpertsGradients result;
  if (want_rows) result.rows = at::empty({sizes.rows, sizes.hidden}, options);
  if (want_weights) result.weights_R = at::empty({sizes.rows}, options.dtype(at::kFloat));
  const at::Tensor d_gate_up = at::empty({sizes.trainable_rows, 2 * sizes.width}, options);
  const at::Tensor act = at::empty({sizes.trainable_rows, sizes.width}, options);
  const at::Tensor d_rows = at::empty({sizes.trainable_rows, sizes.hidden}, options);
  const int64_t end_slot = want_rows || want_weights ? experts.num_local : experts.num_trainable();
  const bool biased = want_weights && adds_down_bias(experts) && sizes.element != kFloat;
  const int64_t bias_bytes = biased ? sizes.hidden * kFloat : 0;
  const auto row_bytes = [&](int64_t slot) {
    const bool apart =
        slot >= experts.num_trainable() && want_rows;  // the gradients of gate and up
    const int64_t elements =
        sizes.hidden + (apart ? 3 : 1) * sizes.width + lora_rank(experts, slot);
    return elements * sizes.element + bias_bytes;
  };
  row_units(sizes.offsets[static_cast<size_t>(end_slot)], end_slot, row_bytes, bias_bytes);
  weight_gradients(sizes, experts);
  if (experts.has_biases) bias_gradients(in, sizes, experts);
  return result;
}

}  // namespace sutor::ops::shapes
