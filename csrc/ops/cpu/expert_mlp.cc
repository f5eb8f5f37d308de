#include "csrc/ops/expert_mlp.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>

#include "csrc/base/profile.h"
#include "csrc/ops/cpu/few_rows_gemm.h"
#include "csrc/ops/cpu/gated_kernels.h"
#include "csrc/ops/cpu/torch_ops.h"
#include "csrc/ops/shapes/shapes.h"

namespace sutor::ops::cpu {
namespace {

using Offsets = std::span<const int64_t>;

// Rows of one unit: enough for a GEMM at full speed, few enough that several threads share an
// expert with many rows.
constexpr int64_t kUnitRows = 512;

Offsets offsets_of(const ExpertRows& in) {
  return {in.offsets.data_ptr<int64_t>(), static_cast<size_t>(in.offsets.numel())};
}

std::vector<Unit> row_units(Offsets offsets, int64_t end_slot) {
  std::vector<Unit> units;
  for (int64_t slot = 0; slot < end_slot; ++slot) {
    const int64_t rows = offsets[slot + 1] - offsets[slot];
    const int64_t chunks = (rows + kUnitRows - 1) / kUnitRows;
    for (int64_t p = 0; p < chunks; ++p) {
      const int64_t begin = offsets[slot] + rows * p / chunks;
      const int64_t end = offsets[slot] + rows * (p + 1) / chunks;
      units.push_back({slot, begin, end, static_cast<double>(end - begin) + 8});
    }
  }
  return units;
}

at::Tensor gather(const at::Tensor& source, const at::Tensor& index, int64_t begin, int64_t end) {
  at::Tensor rows = at::empty({end - begin, source.size(1)}, source.options());
  dispatch_dtype(source.scalar_type(), [&](auto t) {
    using T = decltype(t);
    gather_rows(data<T>(source), index.data_ptr<int64_t>() + begin, data<T>(rows), end - begin,
                source.size(1));
  });
  return rows;
}

// into += a^T b; into is fp32, a and b have the model's dtype.
void accumulate_product(at::Tensor into, const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == at::kFloat) {
    into.addmm_(a.t(), b);
  } else {
    into.add_(at::mm(a.t(), b));
  }
}

bool adds_down_bias(const ExpertWeights& experts) {
  return experts.has_biases && experts.adds_down_bias;
}

void weight_gradients(Offsets offsets, const ExpertWeights& experts, const at::Tensor& x_rows,
                      const at::Tensor& d_gate_up, const at::Tensor& act,
                      const at::Tensor& d_rows) {
  const ProfileScope scope("experts, weight gradients");
  // A unit is a band of rows of one matrix: slots 2s (gate and up) and 2s + 1 (down).
  std::vector<Unit> units;
  const int64_t threads = std::max(1, at::get_num_threads());
  for (int64_t slot = 0; slot < experts.num_trained; ++slot) {
    const int64_t n = offsets[slot + 1] - offsets[slot];
    if (n == 0) continue;  // a zero gradient: the buffer was cleared
    for (const bool down : {false, true}) {
      const int64_t bands = threads > 1 && experts.num_trained < 4 * threads ? threads : 1;
      const int64_t out_rows = down ? experts.hidden : 2 * experts.width;
      for (int64_t b = 0; b < bands; ++b) {
        const int64_t begin = out_rows * b / bands, end = out_rows * (b + 1) / bands;
        units.push_back(
            {2 * slot + down, begin, end,
             static_cast<double>((end - begin) * (down ? experts.width : experts.hidden)) * n});
      }
    }
  }
  run_units(units, [&](const Unit& unit) {
    const int64_t slot = unit.slot / 2, count = unit.end - unit.begin;
    const int64_t first = offsets[slot], n = offsets[slot + 1] - first;
    const bool down = unit.slot % 2 == 1;
    const at::Tensor& left = down ? d_rows : d_gate_up;
    const at::Tensor& right = down ? act : x_rows;
    const at::Tensor& into = down ? experts.grads.down : experts.grads.gate_up;
    accumulate_product(into[slot].narrow(0, unit.begin, count),
                       left.narrow(0, first, n).narrow(1, unit.begin, count),
                       right.narrow(0, first, n));
  });
}

void bias_gradients(const ExpertRows& in, const ExpertWeights& experts, const at::Tensor& d_gate_up,
                    const at::Tensor& d_rows) {
  const Offsets offsets = offsets_of(in);
  for (int64_t slot = 0; slot < experts.num_trained; ++slot) {
    const int64_t begin = offsets[slot], n = offsets[slot + 1] - begin;
    if (n == 0) continue;
    experts.grads.gate_up_bias[slot].add_(
        d_gate_up.narrow(0, begin, n).sum(0, /*keepdim=*/false, at::kFloat));
    if (!adds_down_bias(experts)) continue;
    const at::Tensor rows = d_rows.narrow(0, begin, n).to(at::kFloat);
    experts.grads.down_bias[slot].add_(at::mv(rows.t(), in.weights_R.narrow(0, begin, n)));
  }
}

void lora_gradients(Offsets offsets, const ExpertWeights& experts, const at::Tensor& x_rows,
                    const at::Tensor& d_gate_up, const at::Tensor& act, const at::Tensor& d_rows) {
  std::vector<Unit> units;
  for (size_t slot = 0; slot < experts.lora.size(); ++slot) {
    const int64_t begin = offsets[slot], end = offsets[slot + 1];
    if (begin == end) continue;
    units.push_back({static_cast<int64_t>(slot), begin, end, static_cast<double>(end - begin)});
  }
  run_units(units, [&](const Unit& unit) {
    const auto rows = [&](const at::Tensor& all) {
      return all.narrow(0, unit.begin, unit.end - unit.begin);
    };
    experts.lora[static_cast<size_t>(unit.slot)].add_gradients(rows(x_rows), rows(d_gate_up),
                                                               rows(act), rows(d_rows));
  });
}

}  // namespace

at::Tensor expert_mlp(const ExpertRows& in, const ExpertWeights& experts,
                      const GatedActivation& activation, ExpertsSaved* saved) {
  if (in.source.is_meta()) return shapes::expert_mlp(in, experts, saved);
  const Offsets offsets = offsets_of(in);
  const int64_t rows = offsets.back(), width = experts.width, hidden = experts.hidden;
  const int64_t trainable_rows = offsets[experts.num_trainable()];
  at::Tensor y = at::empty({rows, hidden}, in.source.options());
  if (saved) {
    saved->gate_up = at::empty({rows, 2 * width}, in.source.options());
    saved->inputs = at::empty({trainable_rows, hidden}, in.source.options());
  }
  std::vector<Unit> units = row_units(offsets, experts.num_local);
  run_units(units, [&](const Unit& unit) {
    const int64_t n = unit.end - unit.begin;
    const ExpertLora* lora = experts.lora_of(unit.slot);
    const at::Tensor x = gather(in.source, in.row_index_R, unit.begin, unit.end);
    if (saved && unit.slot < experts.num_trainable()) {
      saved->inputs.narrow(0, unit.begin, n).copy_(x);
    }
    at::Tensor gate_up = saved ? saved->gate_up.narrow(0, unit.begin, n)
                               : at::empty({n, 2 * width}, in.source.options());
    few_rows_mm_transposed(x, experts.gate_up(unit.slot), gate_up);
    if (experts.has_biases) gate_up.add_(experts.gate_up_bias(unit.slot));
    if (lora) lora->add_to_gate_up(x, gate_up);
    const at::Tensor act = at::empty({n, width}, in.source.options());
    dispatch_dtype(act.scalar_type(), [&](auto t) {
      using T = decltype(t);
      const T* gate = data<T>(gate_up);
      activation_forward(activation, gate, gate + width, 2 * width,
                         in.weights_R.data_ptr<float>() + unit.begin, data<T>(act), n, width);
    });
    at::Tensor out = y.narrow(0, unit.begin, n);
    few_rows_mm_transposed(act, experts.down(unit.slot), out);
    if (adds_down_bias(experts)) {
      const at::Tensor weights = in.weights_R.narrow(0, unit.begin, n).unsqueeze(1);
      out.add_(weights * experts.down_bias(unit.slot).to(at::kFloat));
    }
    if (lora) lora->add_to_output(act, out);
  });
  return y;
}

ExpertsGradients expert_mlp_backward(const ExpertRows& in, const ExpertWeights& experts,
                                     const GatedActivation& activation, const ExpertsSaved& saved,
                                     const at::Tensor& d_source, bool want_rows,
                                     bool want_weights) {
  if (d_source.is_meta()) {
    return shapes::expert_mlp_backward(in, experts, saved, d_source, want_rows, want_weights);
  }
  const Offsets offsets = offsets_of(in);
  const int64_t rows = offsets.back(), width = experts.width, hidden = experts.hidden;
  const int64_t trainable_rows = offsets[experts.num_trainable()];
  const auto options = d_source.options();
  ExpertsGradients result;
  if (want_rows) result.rows = at::empty({rows, hidden}, options);
  if (want_weights) result.weights_R = at::empty({rows}, options.dtype(at::kFloat));
  // Rows of the trainable slots, which the gradients of weights and pairs need.
  const at::Tensor d_gate_up = at::empty({trainable_rows, 2 * width}, options);
  const at::Tensor act = at::empty({trainable_rows, width}, options);
  const at::Tensor d_rows = at::empty({trainable_rows, hidden}, options);

  const int64_t end_slot = want_rows || want_weights ? experts.num_local : experts.num_trainable();
  std::vector<Unit> units = row_units(offsets, end_slot);
  run_units(units, [&](const Unit& unit) {
    const int64_t n = unit.end - unit.begin;
    const bool trainable = unit.slot < experts.num_trainable();
    const ExpertLora* lora = experts.lora_of(unit.slot);
    const at::Tensor dy = gather(d_source, in.row_index_R, unit.begin, unit.end);
    if (trainable) d_rows.narrow(0, unit.begin, n).copy_(dy);
    const at::Tensor d_act = at::empty({n, width}, options);
    few_rows_mm(dy, experts.down(unit.slot), d_act);
    if (lora) lora->add_to_d_act(dy, d_act);
    const at::Tensor d_gu = trainable   ? d_gate_up.narrow(0, unit.begin, n)
                            : want_rows ? at::empty({n, 2 * width}, options)
                                        : at::Tensor();
    dispatch_dtype(dy.scalar_type(), [&](auto t) {
      using T = decltype(t);
      const T* gate = data<T>(saved.gate_up) + unit.begin * 2 * width;
      T* d_gate = d_gu.defined() ? data<T>(d_gu) : nullptr;
      activation_backward(
          activation, gate, gate + width, 2 * width, in.weights_R.data_ptr<float>() + unit.begin,
          data<T>(d_act), d_gate, d_gate ? d_gate + width : nullptr,
          trainable ? data<T>(act) + unit.begin * width : nullptr,
          want_weights ? result.weights_R.data_ptr<float>() + unit.begin : nullptr, n, width);
    });
    if (want_weights && adds_down_bias(experts)) {
      result.weights_R.narrow(0, unit.begin, n)
          .add_(at::mv(dy.to(at::kFloat), experts.down_bias(unit.slot).to(at::kFloat)));
    }
    if (want_rows) {
      at::Tensor dx = result.rows.narrow(0, unit.begin, n);
      few_rows_mm(d_gu, experts.gate_up(unit.slot), dx);
      if (lora) lora->add_to_dx(d_gu, dx);
    }
  });
  weight_gradients(offsets, experts, saved.inputs, d_gate_up, act, d_rows);
  if (experts.has_biases) bias_gradients(in, experts, d_gate_up, d_rows);
  lora_gradients(offsets, experts, saved.inputs, d_gate_up, act, d_rows);
  return result;
}

}  // namespace sutor::ops::cpu
