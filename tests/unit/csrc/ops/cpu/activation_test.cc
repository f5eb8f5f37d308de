// The activations between the halves of an MLP against their formulas in torch.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "csrc/ops/cpu/gated_kernels.h"

namespace sutor {
namespace {

struct Case {
  const char* name;
  ops::GatedActivation act;
};

at::Tensor formula(const ops::GatedActivation& act, const at::Tensor& gate, const at::Tensor& up) {
  if (act.is_swiglu()) return at::silu(gate) * up;
  const at::Tensor g = gate.clamp_max(act.limit), u = up.clamp(-act.limit, act.limit);
  return (u + act.up_offset) * g * at::sigmoid(g * act.alpha);
}

class Activation : public ::testing::TestWithParam<Case> {};

TEST_P(Activation, ValuesAndGradientsAreThoseOfTheFormula) {
  constexpr int64_t kRows = 7, kWidth = 45;
  at::manual_seed(1);
  const ops::GatedActivation& act = GetParam().act;
  const at::Tensor both = at::randn({kRows, 2 * kWidth}) * 3;
  const at::Tensor gate = both.narrow(1, 0, kWidth).clone().set_requires_grad(true);
  const at::Tensor up = both.narrow(1, kWidth, kWidth).clone().set_requires_grad(true);
  const at::Tensor weight = at::rand({kRows}).set_requires_grad(true);
  const at::Tensor d_out = at::randn({kRows, kWidth});
  const at::Tensor expected = weight.unsqueeze(1) * formula(act, gate, up);
  const auto gradients = torch::autograd::grad({(expected * d_out).sum()}, {gate, up, weight});

  const at::Tensor out = at::empty({kRows, kWidth}), again = at::empty({kRows, kWidth});
  const at::Tensor d_both = at::empty({kRows, 2 * kWidth}), d_weight = at::empty({kRows});
  const float* from = both.data_ptr<float>();
  float* to = d_both.data_ptr<float>();
  ops::activation_forward(act, from, from + kWidth, 2 * kWidth, weight.data_ptr<float>(),
                          out.data_ptr<float>(), kRows, kWidth);
  ops::activation_backward(act, from, from + kWidth, 2 * kWidth, weight.data_ptr<float>(),
                           d_out.data_ptr<float>(), to, to + kWidth, again.data_ptr<float>(),
                           d_weight.data_ptr<float>(), kRows, kWidth);
  EXPECT_TRUE(at::allclose(out, expected, 1e-5, 1e-6));
  EXPECT_TRUE(at::equal(out, again));
  EXPECT_TRUE(at::allclose(d_both.narrow(1, 0, kWidth), gradients[0], 1e-5, 1e-5));
  EXPECT_TRUE(at::allclose(d_both.narrow(1, kWidth, kWidth), gradients[1], 1e-5, 1e-5));
  EXPECT_TRUE(at::allclose(d_weight, gradients[2], 1e-5, 1e-5));
}

INSTANTIATE_TEST_SUITE_P(Cases, Activation,
                         ::testing::Values(Case{"Swiglu", {}},
                                           Case{"Clamped",
                                                {.alpha = 1.702F, .limit = 1.5F, .up_offset = 1}},
                                           Case{"WithoutClamp", {.alpha = 1.702F, .up_offset = 1}}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace sutor
