#include "layers/moe/grouped_experts.h"

#include <torch/types.h>

#include "csrc/base/profile.h"
#include "csrc/ops/cpu/few_rows_gemm.h"
#include "csrc/ops/cpu/torch_ops.h"

namespace sutor {
namespace {

// Rows of one unit: enough for a GEMM at full speed, few enough that a crowded expert is shared by
// the threads.
constexpr int64_t kUnitRows = 512;

std::vector<ops::Unit> row_units(const std::vector<int64_t>& offsets, int64_t first_slot,
                                 int64_t end_slot) {
  std::vector<ops::Unit> units;
  for (int64_t slot = first_slot; slot < end_slot; ++slot) {
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
  ops::dispatch_dtype(source.scalar_type(), [&](auto t) {
    using T = decltype(t);
    ops::gather_rows(ops::data<T>(source), index.data_ptr<int64_t>() + begin, ops::data<T>(rows),
                     end - begin, source.size(1));
  });
  return rows;
}

// into += a^T b, into being fp32; a, b of the model's dtype.
void accumulate_product(at::Tensor into, const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == at::kFloat) {
    into.addmm_(a.t(), b);
  } else {
    into.add_(at::mm(a.t(), b));
  }
}

}  // namespace

at::Tensor GroupedExperts::forward(const Dispatched& in, ExpertsSaved* saved) const {
  const ProfileScope scope("experts");
  const int64_t rows = in.offsets.back(), width = storage_.width, hidden = storage_.hidden;
  const int64_t trainable_rows = in.offsets[storage_.num_trainable()];
  const at::Tensor& index = in.handle->row_index_R;
  at::Tensor y = at::empty({rows, hidden}, in.source.options());
  if (saved) {
    saved->gate_up = at::empty({rows, 2 * width}, in.source.options());
    saved->trainable_rows = at::empty({trainable_rows, hidden}, in.source.options());
  }
  std::vector<ops::Unit> units = row_units(in.offsets, 0, storage_.num_local);
  ops::run_units(units, [&](const ops::Unit& unit) {
    const int64_t n = unit.end - unit.begin;
    const ExpertLora* lora = lora_of(unit.slot);
    const at::Tensor x = gather(in.source, index, unit.begin, unit.end);
    if (saved && unit.slot < storage_.num_trainable()) {
      saved->trainable_rows.narrow(0, unit.begin, n).copy_(x);
    }
    at::Tensor gate_up = saved ? saved->gate_up.narrow(0, unit.begin, n)
                               : at::empty({n, 2 * width}, in.source.options());
    ops::few_rows_mm_transposed(x, storage_.gate_up(unit.slot), gate_up);
    if (storage_.has_biases) gate_up.add_(storage_.gate_up_bias(unit.slot));
    if (lora) lora->add_to_gate_up(x, gate_up);
    const at::Tensor act = at::empty({n, width}, in.source.options());
    ops::dispatch_dtype(act.scalar_type(), [&](auto t) {
      using T = decltype(t);
      const T* gate = ops::data<T>(gate_up);
      ops::activation_forward(activation_, gate, gate + width, 2 * width,
                              in.weights_R.data_ptr<float>() + unit.begin, ops::data<T>(act), n,
                              width);
    });
    at::Tensor out = y.narrow(0, unit.begin, n);
    ops::few_rows_mm_transposed(act, storage_.down(unit.slot), out);
    if (adds_down_bias()) {
      const at::Tensor weights = in.weights_R.narrow(0, unit.begin, n).unsqueeze(1);
      out.add_(weights * storage_.down_bias(unit.slot).to(at::kFloat));
    }
    if (lora) lora->add_to_output(act, out);
  });
  return y;
}

ExpertsGradients GroupedExperts::backward(const Dispatched& in, const ExpertsSaved& saved,
                                          const at::Tensor& d_source, bool want_rows,
                                          bool want_weights) const {
  const ProfileScope scope("experts, backward");
  const int64_t rows = in.offsets.back(), width = storage_.width, hidden = storage_.hidden;
  const int64_t trainable_rows = in.offsets[storage_.num_trainable()];
  const at::Tensor& index = in.handle->row_index_R;
  const auto options = d_source.options();
  ExpertsGradients result;
  if (want_rows) result.rows = at::empty({rows, hidden}, options);
  if (want_weights) result.weights_R = at::empty({rows}, options.dtype(at::kFloat));
  // Of the trainable prefix, for the gradients of weights and pairs.
  const at::Tensor d_gate_up = at::empty({trainable_rows, 2 * width}, options);
  const at::Tensor act = at::empty({trainable_rows, width}, options);
  const at::Tensor d_rows = at::empty({trainable_rows, hidden}, options);

  const int64_t end_slot =
      want_rows || want_weights ? storage_.num_local : storage_.num_trainable();
  std::vector<ops::Unit> units = row_units(in.offsets, 0, end_slot);
  ops::run_units(units, [&](const ops::Unit& unit) {
    const int64_t n = unit.end - unit.begin;
    const bool trainable = unit.slot < storage_.num_trainable();
    const ExpertLora* lora = lora_of(unit.slot);
    const at::Tensor dy = gather(d_source, index, unit.begin, unit.end);
    if (trainable) d_rows.narrow(0, unit.begin, n).copy_(dy);
    const at::Tensor d_act = at::empty({n, width}, options);
    ops::few_rows_mm(dy, storage_.down(unit.slot), d_act);
    if (lora) lora->add_to_d_act(dy, d_act);
    const at::Tensor d_gu = trainable   ? d_gate_up.narrow(0, unit.begin, n)
                            : want_rows ? at::empty({n, 2 * width}, options)
                                        : at::Tensor();
    ops::dispatch_dtype(dy.scalar_type(), [&](auto t) {
      using T = decltype(t);
      const T* gate = ops::data<T>(saved.gate_up) + unit.begin * 2 * width;
      T* d_gate = d_gu.defined() ? ops::data<T>(d_gu) : nullptr;
      ops::activation_backward(
          activation_, gate, gate + width, 2 * width, in.weights_R.data_ptr<float>() + unit.begin,
          ops::data<T>(d_act), d_gate, d_gate ? d_gate + width : nullptr,
          trainable ? ops::data<T>(act) + unit.begin * width : nullptr,
          want_weights ? result.weights_R.data_ptr<float>() + unit.begin : nullptr, n, width);
    });
    if (want_weights && adds_down_bias()) {
      result.weights_R.narrow(0, unit.begin, n)
          .add_(at::mv(dy.to(at::kFloat), storage_.down_bias(unit.slot).to(at::kFloat)));
    }
    if (want_rows) {
      at::Tensor dx = result.rows.narrow(0, unit.begin, n);
      ops::few_rows_mm(d_gu, storage_.gate_up(unit.slot), dx);
      if (lora) lora->add_to_dx(d_gu, dx);
    }
  });
  weight_gradients(in.offsets, saved.trainable_rows, d_gate_up, act, d_rows);
  if (storage_.has_biases) bias_gradients(in, d_gate_up, d_rows);
  lora_gradients(in.offsets, saved.trainable_rows, d_gate_up, act, d_rows);
  return result;
}

void GroupedExperts::weight_gradients(const std::vector<int64_t>& offsets, const at::Tensor& x_rows,
                                      const at::Tensor& d_gate_up, const at::Tensor& act,
                                      const at::Tensor& d_rows) const {
  const ProfileScope scope("experts, weight gradients");
  // A unit is a band of rows of one matrix: slots 2s (gate and up) and 2s + 1 (down).
  std::vector<ops::Unit> units;
  const int64_t threads = std::max(1, at::get_num_threads());
  for (int64_t slot = 0; slot < storage_.num_trained; ++slot) {
    const int64_t n = offsets[slot + 1] - offsets[slot];
    if (n == 0) continue;  // a zero gradient: the buffer was cleared
    for (const bool down : {false, true}) {
      const int64_t bands = threads > 1 && storage_.num_trained < 4 * threads ? threads : 1;
      const int64_t out_rows = down ? storage_.hidden : 2 * storage_.width;
      for (int64_t b = 0; b < bands; ++b) {
        const int64_t begin = out_rows * b / bands, end = out_rows * (b + 1) / bands;
        units.push_back(
            {2 * slot + down, begin, end,
             static_cast<double>((end - begin) * (down ? storage_.width : storage_.hidden)) * n});
      }
    }
  }
  ops::run_units(units, [&](const ops::Unit& unit) {
    const int64_t slot = unit.slot / 2, count = unit.end - unit.begin;
    const int64_t first = offsets[slot], n = offsets[slot + 1] - first;
    const bool down = unit.slot % 2 == 1;
    const at::Tensor& left = down ? d_rows : d_gate_up;
    const at::Tensor& right = down ? act : x_rows;
    const at::Tensor& into = down ? storage_.grads.down : storage_.grads.gate_up;
    accumulate_product(into[slot].narrow(0, unit.begin, count),
                       left.narrow(0, first, n).narrow(1, unit.begin, count),
                       right.narrow(0, first, n));
  });
}

void GroupedExperts::bias_gradients(const Dispatched& in, const at::Tensor& d_gate_up,
                                    const at::Tensor& d_rows) const {
  for (int64_t slot = 0; slot < storage_.num_trained; ++slot) {
    const int64_t begin = in.offsets[slot], n = in.offsets[slot + 1] - begin;
    if (n == 0) continue;
    storage_.grads.gate_up_bias[slot].add_(
        d_gate_up.narrow(0, begin, n).sum(0, /*keepdim=*/false, at::kFloat));
    if (!adds_down_bias()) continue;
    const at::Tensor rows = d_rows.narrow(0, begin, n).to(at::kFloat);
    storage_.grads.down_bias[slot].add_(at::mv(rows.t(), in.weights_R.narrow(0, begin, n)));
  }
}

void GroupedExperts::lora_gradients(const std::vector<int64_t>& offsets, const at::Tensor& x_rows,
                                    const at::Tensor& d_gate_up, const at::Tensor& act,
                                    const at::Tensor& d_rows) const {
  std::vector<ops::Unit> units;
  for (size_t slot = 0; slot < storage_.lora.size(); ++slot) {
    const int64_t begin = offsets[slot], end = offsets[slot + 1];
    if (begin == end) continue;
    units.push_back({static_cast<int64_t>(slot), begin, end, static_cast<double>(end - begin)});
  }
  ops::run_units(units, [&](const ops::Unit& unit) {
    const auto rows = [&](const at::Tensor& all) {
      return all.narrow(0, unit.begin, unit.end - unit.begin);
    };
    storage_.lora[unit.slot].add_gradients(rows(x_rows), rows(d_gate_up), rows(act), rows(d_rows));
  });
}

}  // namespace sutor
