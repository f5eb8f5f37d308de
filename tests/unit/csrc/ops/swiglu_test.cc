// SwiGLU and its gradient beside the formula in float64.
#include "csrc/ops/swiglu.h"

#include <torch/csrc/autograd/autograd.h>

#include "tests/support/op_devices.h"

namespace sutor::ops {
namespace {

using namespace testing;  // NOLINT: sutor::testing

struct Case {
  const char* name;
  std::vector<int64_t> sizes;
  double scale = 1;  // of the gates
};

const Case kCases[] = {
    {"NoRows", {0, 3}},
    {"OneNumber", {1, 1}},
    {"OneRow", {1, 45}},
    {"OddRows", {33, 45}},
    {"RowsOfRows", {2, 19, 7}},
    {"ManyRows", {300, 64}},
    {"ExtremeGates", {40, 17}, 100},
};

class Swiglu : public OperatorTest<at::ScalarType, Case> {};

TEST_P(Swiglu, ValuesAndGradientsAreThoseOfTheFormula) {
  const at::ScalarType dtype = std::get<1>(GetParam());
  const Case& c = std::get<2>(GetParam());
  const at::Tensor gate = (random_normal(c.sizes, at::kFloat, 1) * c.scale).to(dtype);
  const at::Tensor up = random_normal(c.sizes, dtype, 2), d_out = random_normal(c.sizes, dtype, 3);
  const at::Tensor g = leaf_of(gate), u = leaf_of(up), wanted = g * at::sigmoid(g) * u;
  const auto d_wanted = torch::autograd::grad({(wanted * as_double(d_out)).sum()}, {g, u});

  const at::Tensor on_gate = moved(gate), on_up = moved(up), on_d_out = moved(d_out);
  const at::Tensor out = without_host_reads([&] { return swiglu(on_gate, on_up); });
  EXPECT_EQ(out.scalar_type(), dtype);
  EXPECT_EQ(out.device(), on_gate.device());
  expect_near(out, wanted, tolerance_of(dtype), "output");
  const SwigluGradients d =
      without_host_reads([&] { return swiglu_gradients(on_gate, on_up, on_d_out); });
  EXPECT_EQ(d.gate.scalar_type(), dtype);
  EXPECT_EQ(d.up.scalar_type(), dtype);
  expect_near(d.gate, d_wanted[0], tolerance_of(dtype), "gradient of gate");
  expect_near(d.up, d_wanted[1], tolerance_of(dtype), "gradient of up");
}

INSTANTIATE_TEST_SUITE_P(Ops, Swiglu, on_all_devices_in_both_dtypes(kCases), NamesOfParams());

}  // namespace
}  // namespace sutor::ops
