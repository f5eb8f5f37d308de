// The low-rank pairs of one routed expert, and what they add to its forward and backward pass.
#pragma once

#include <ATen/core/Tensor.h>

namespace sutor::ops {

struct LoraPair {
  at::Tensor a, b;            // [rank, in], [out, rank], model dtype
  at::Tensor grad_a, grad_b;  // fp32
};

// n: rows of this expert.
struct ExpertLora {
  LoraPair gate, up, down;
  double scale = 1;

  // gate_up [n, 2I] += the pairs of gate and up applied to x [n, H].
  void add_to_gate_up(const at::Tensor& x, const at::Tensor& gate_up) const;
  // y [n, H] += the pair of down applied to act [n, I].
  void add_to_output(const at::Tensor& act, const at::Tensor& y) const;
  // d_act [n, I] += the gradient through the pair of down; dy [n, H].
  void add_to_d_act(const at::Tensor& dy, const at::Tensor& d_act) const;
  // dx [n, H] += the gradient through the pairs of gate and up; d_gate_up [n, 2I].
  void add_to_dx(const at::Tensor& d_gate_up, const at::Tensor& dx) const;
  // Adds to the gradients of all pairs.
  void add_gradients(const at::Tensor& x, const at::Tensor& d_gate_up, const at::Tensor& act,
                     const at::Tensor& dy) const;
};

}  // namespace sutor::ops
