#include "csrc/ops/expert_lora.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>

namespace sutor::ops {
namespace {

// The halves of [n, 2I].
at::Tensor half(const at::Tensor& gate_up, int which) {
  const int64_t width = gate_up.size(1) / 2;
  return gate_up.narrow(1, which * width, width);
}

// into += scale * left right; into is a view of a larger tensor.
void add_product(at::Tensor into, const at::Tensor& left, const at::Tensor& right, double scale) {
  if (into.scalar_type() == left.scalar_type()) {
    into.addmm_(left, right, 1, scale);
  } else {
    into.add_(at::mm(left, right), scale);  // a gradient in fp32 of products in bf16
  }
}

void add_forward(const LoraPair& pair, const at::Tensor& x, const at::Tensor& y, double scale) {
  add_product(y, at::mm(x, pair.a.t()), pair.b.t(), scale);
}

void add_backward(const LoraPair& pair, const at::Tensor& dy, const at::Tensor& dx, double scale) {
  add_product(dx, at::mm(dy, pair.b), pair.a, scale);
}

void add_pair_gradients(const LoraPair& pair, const at::Tensor& x, const at::Tensor& dy,
                        double scale) {
  add_product(pair.grad_b, dy.t(), at::mm(x, pair.a.t()), scale);
  add_product(pair.grad_a, at::mm(dy, pair.b).t(), x, scale);
}

}  // namespace

void ExpertLora::add_to_gate_up(const at::Tensor& x, const at::Tensor& gate_up) const {
  add_forward(gate, x, half(gate_up, 0), scale);
  add_forward(up, x, half(gate_up, 1), scale);
}

void ExpertLora::add_to_output(const at::Tensor& act, const at::Tensor& y) const {
  add_forward(down, act, y, scale);
}

void ExpertLora::add_to_d_act(const at::Tensor& dy, const at::Tensor& d_act) const {
  add_backward(down, dy, d_act, scale);
}

void ExpertLora::add_to_dx(const at::Tensor& d_gate_up, const at::Tensor& dx) const {
  add_backward(gate, half(d_gate_up, 0), dx, scale);
  add_backward(up, half(d_gate_up, 1), dx, scale);
}

void ExpertLora::add_gradients(const at::Tensor& x, const at::Tensor& d_gate_up,
                               const at::Tensor& act, const at::Tensor& dy) const {
  add_pair_gradients(gate, x, half(d_gate_up, 0), scale);
  add_pair_gradients(up, x, half(d_gate_up, 1), scale);
  add_pair_gradients(down, act, dy, scale);
}

}  // namespace sutor::ops
