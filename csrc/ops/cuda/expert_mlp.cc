// R: rows of all slots. Which rows a slot has stays on the device: kernels look it up.
#include "csrc/ops/expert_mlp.h"

#include "csrc/ops/cuda/kernels/expert_bias.h"
#include "csrc/ops/cuda/kernels/gated.h"
#include "csrc/ops/cuda/kernels/grouped_mm.h"
#include "csrc/ops/cuda/tensors.h"

namespace sutor::ops::cuda {
namespace {

// The rows of the first `slots` slots.
Groups groups_of(const ExpertRows& in, int64_t slots) {
  return {data<int64_t>(in.offsets), slots, in.row_index_R.size(0)};
}

// The tensors of all slots, each with so many elements.
template <typename T>
Stacks<T> stacks_of(const ExpertWeights& experts, at::Tensor ExpertTensors::*member,
                    int64_t elements) {
  return {data<T>(experts.trained.*member), data<T>(experts.frozen.*member), experts.num_trained,
          elements};
}

MatrixShape gate_up_shape(const ExpertWeights& experts) {
  return {2 * experts.width, experts.hidden};
}
MatrixShape down_shape(const ExpertWeights& experts) { return {experts.hidden, experts.width}; }

template <typename T>
Stacks<T> matrices_of(const ExpertWeights& experts, at::Tensor ExpertTensors::*member) {
  return stacks_of<T>(experts, member,
                      (member == &ExpertTensors::down ? 1 : 2) * experts.hidden * experts.width);
}

// y [R, out] = x times the transposed matrix of each row's slot.
at::Tensor multiply_transposed(const Groups& groups, const ExpertWeights& experts,
                               at::Tensor ExpertTensors::*member, const MatrixShape& shape,
                               const at::Tensor& x) {
  at::Tensor y = at::empty({groups.rows, shape.out}, x.options());
  dispatch_dtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    on_stream([&](cudaStream_t stream) {
      launch_grouped_mm_transposed(groups, shape, data<T>(x), matrices_of<T>(experts, member),
                                   data<T>(y), stream);
    });
  });
  return y;
}

// dx [R, in] = dy times the matrix of each row's slot.
at::Tensor multiply(const Groups& groups, const ExpertWeights& experts,
                    at::Tensor ExpertTensors::*member, const MatrixShape& shape,
                    const at::Tensor& dy) {
  at::Tensor dx = at::empty({groups.rows, shape.in}, dy.options());
  dispatch_dtype(dy.scalar_type(), [&](auto t) {
    using T = decltype(t);
    on_stream([&](cudaStream_t stream) {
      launch_grouped_mm(groups, shape, data<T>(dy), matrices_of<T>(experts, member), data<T>(dx),
                        stream);
    });
  });
  return dx;
}

// grad[slot] += dy^T x over the rows of each slot.
void add_products(const Groups& groups, const MatrixShape& shape, const at::Tensor& dy,
                  const at::Tensor& x, const at::Tensor& grad) {
  dispatch_dtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    on_stream([&](cudaStream_t stream) {
      launch_grouped_add_products(groups, shape, data<T>(dy), data<T>(x), data<float>(grad),
                                  stream);
    });
  });
}

// y += weight * bias; weights may be undefined (1).
void add_bias(const Groups& groups, const ExpertWeights& experts, at::Tensor ExpertTensors::*member,
              const at::Tensor& weights, const at::Tensor& y) {
  dispatch_dtype(y.scalar_type(), [&](auto t) {
    using T = decltype(t);
    on_stream([&](cudaStream_t stream) {
      launch_add_bias(groups, stacks_of<T>(experts, member, y.size(1)), data<float>(weights),
                      data<T>(y), stream);
    });
  });
}

// sums[slot] += the sum of weight * x over the rows of each slot; weights may be undefined (1).
void add_group_sums(const Groups& groups, const at::Tensor& x, const at::Tensor& weights,
                    const at::Tensor& sums) {
  dispatch_dtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    on_stream([&](cudaStream_t stream) {
      launch_add_group_sums(groups, data<T>(x), data<float>(weights), x.size(1), data<float>(sums),
                            stream);
    });
  });
}

at::Tensor gated(const GatedActivation& activation, const at::Tensor& gate_up,
                 const at::Tensor& weights_R) {
  const int64_t rows = gate_up.size(0), width = gate_up.size(1) / 2;
  at::Tensor out = at::empty({rows, width}, gate_up.options());
  dispatch_dtype(out.scalar_type(), [&](auto t) {
    using T = decltype(t);
    on_stream([&](cudaStream_t stream) {
      launch_gated(activation, data<T>(gate_up), data<float>(weights_R), data<T>(out), rows, width,
                   stream);
    });
  });
  return out;
}

// What the gradient of the activation is asked for.
struct GatedRequest {
  int64_t end_slot, num_trainable;    // in the rows of these slots; the activation again in those
  at::Tensor d_gate_up, d_weights_R;  // undefined: not wanted
};

// d_act becomes the activation in the rows of the trainable slots.
void gated_gradients(const ExpertRows& in, const GatedActivation& activation,
                     const at::Tensor& gate_up, const GatedRequest& request,
                     const at::Tensor& d_act) {
  const int64_t* offsets = data<int64_t>(in.offsets);
  dispatch_dtype(d_act.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const GatedGradients<T> to{
        .d_gate_up = data<T>(request.d_gate_up),
        .d_weights = data<float>(request.d_weights_R),
        .end = offsets + request.end_slot,
        .out_end = request.num_trainable > 0 ? offsets + request.num_trainable : nullptr};
    on_stream([&](cudaStream_t stream) {
      launch_gated_gradients(activation, data<T>(gate_up), data<float>(in.weights_R),
                             data<T>(d_act), to, d_act.size(0), d_act.size(1), stream);
    });
  });
}

// d_weights_R[r] += <dy[r], the bias of down of r's slot>
void add_bias_dots(const Groups& groups, const ExpertWeights& experts, const at::Tensor& dy,
                   const at::Tensor& d_weights_R) {
  dispatch_dtype(dy.scalar_type(), [&](auto t) {
    using T = decltype(t);
    on_stream([&](cudaStream_t stream) {
      launch_add_bias_dots(groups, stacks_of<T>(experts, &ExpertTensors::down_bias, dy.size(1)),
                           data<T>(dy), data<float>(d_weights_R), stream);
    });
  });
}

// The low-rank pairs of the slots that have rows, for which the offsets are read.
class LoraRows {
 public:
  LoraRows(const ExpertRows& in, const ExpertWeights& experts) : lora_(experts.lora) {
    if (lora_.empty()) return;
    const at::Tensor offsets = in.offsets.cpu();
    const int64_t* begin = offsets.data_ptr<int64_t>();
    offsets_.assign(begin, begin + lora_.size() + 1);
  }

  // f(pairs, rows_of), where rows_of(x) are the slot's rows of x [R, ...].
  template <typename F>
  void for_each(const F& f) const {
    for (size_t slot = 0; slot < lora_.size(); ++slot) {
      const int64_t first = offsets_[slot], count = offsets_[slot + 1] - first;
      if (count == 0) continue;
      f(lora_[slot], [=](const at::Tensor& x) { return x.narrow(0, first, count); });
    }
  }

 private:
  const std::vector<ExpertLora>& lora_;
  std::vector<int64_t> offsets_;
};

// What the gradients of weights and pairs are made of, [R, ...]; rows of the trainable slots count.
struct GradientRows {
  at::Tensor x, d_gate_up, act, dy;
};

void add_weight_gradients(const ExpertRows& in, const ExpertWeights& experts,
                          const GradientRows& rows) {
  if (experts.num_trained == 0) return;
  const Groups trained = groups_of(in, experts.num_trained);
  add_products(trained, gate_up_shape(experts), rows.d_gate_up, rows.x, experts.grads.gate_up);
  add_products(trained, down_shape(experts), rows.dy, rows.act, experts.grads.down);
  if (!experts.has_biases) return;
  add_group_sums(trained, rows.d_gate_up, {}, experts.grads.gate_up_bias);
  if (experts.adds_down_bias) {
    add_group_sums(trained, rows.dy, in.weights_R, experts.grads.down_bias);
  }
}

}  // namespace

at::Tensor expert_mlp(const ExpertRows& in, const ExpertWeights& experts,
                      const GatedActivation& activation, ExpertsSaved* saved) {
  const Groups all = groups_of(in, experts.num_local);
  const LoraRows lora(in, experts);
  const at::Tensor x = in.source.index_select(0, in.row_index_R);
  const at::Tensor gate_up =
      multiply_transposed(all, experts, &ExpertTensors::gate_up, gate_up_shape(experts), x);
  if (experts.has_biases) add_bias(all, experts, &ExpertTensors::gate_up_bias, {}, gate_up);
  lora.for_each([&](const ExpertLora& pairs, const auto& rows_of) {
    pairs.add_to_gate_up(rows_of(x), rows_of(gate_up));
  });
  const at::Tensor act = gated(activation, gate_up, in.weights_R);
  at::Tensor y = multiply_transposed(all, experts, &ExpertTensors::down, down_shape(experts), act);
  if (experts.has_biases && experts.adds_down_bias) {
    add_bias(all, experts, &ExpertTensors::down_bias, in.weights_R, y);
  }
  lora.for_each([&](const ExpertLora& pairs, const auto& rows_of) {
    pairs.add_to_output(rows_of(act), rows_of(y));
  });
  if (saved) *saved = {.gate_up = gate_up, .inputs = in.source};
  return y;
}

ExpertsGradients expert_mlp_backward(const ExpertRows& in, const ExpertWeights& experts,
                                     const GatedActivation& activation, const ExpertsSaved& saved,
                                     const at::Tensor& d_source, bool want_rows,
                                     bool want_weights) {
  const int64_t num_trainable = experts.num_trainable();
  const Groups groups =
      groups_of(in, want_rows || want_weights ? experts.num_local : num_trainable);
  ExpertsGradients result;
  if (want_weights) {
    result.weights_R = at::empty({groups.rows}, d_source.options().dtype(at::kFloat));
  }
  if (groups.groups == 0) return result;
  const LoraRows lora(in, experts);
  GradientRows rows;
  rows.dy = d_source.index_select(0, in.row_index_R);
  const at::Tensor d_act =
      multiply(groups, experts, &ExpertTensors::down, down_shape(experts), rows.dy);
  lora.for_each([&](const ExpertLora& pairs, const auto& rows_of) {
    pairs.add_to_d_act(rows_of(rows.dy), rows_of(d_act));
  });
  if (want_rows || num_trainable > 0) {
    rows.d_gate_up = at::empty({groups.rows, 2 * experts.width}, d_source.options());
  }
  gated_gradients(in, activation, saved.gate_up,
                  {groups.groups, num_trainable, rows.d_gate_up, result.weights_R}, d_act);
  rows.act = d_act;
  if (want_weights && experts.has_biases && experts.adds_down_bias) {
    add_bias_dots(groups, experts, rows.dy, result.weights_R);
  }
  if (want_rows) {
    result.rows =
        multiply(groups, experts, &ExpertTensors::gate_up, gate_up_shape(experts), rows.d_gate_up);
    lora.for_each([&](const ExpertLora& pairs, const auto& rows_of) {
      pairs.add_to_dx(rows_of(rows.d_gate_up), rows_of(result.rows));
    });
  }
  if (num_trainable == 0) return result;
  rows.x = saved.inputs.index_select(0, in.row_index_R);
  add_weight_gradients(in, experts, rows);
  lora.for_each([&](const ExpertLora& pairs, const auto& rows_of) {
    pairs.add_gradients(rows_of(rows.x), rows_of(rows.d_gate_up), rows_of(rows.act),
                        rows_of(rows.dy));
  });
  return result;
}

}  // namespace sutor::ops::cuda
