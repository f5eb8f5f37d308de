// RMS norm and its gradient beside the formula in float64.
#include "csrc/ops/rms_norm.h"

#include <torch/csrc/autograd/autograd.h>

#include "tests/support/op_devices.h"

namespace sutor::ops {
namespace {

using namespace testing;  // NOLINT: sutor::testing

struct Case {
  const char* name;
  std::vector<int64_t> sizes;
  double eps = 1e-6;
  bool zeros = false;
};

const Case kCases[] = {
    {"NoRows", {0, 5}},      {"OneRowOfOne", {1, 1}, 0.5},  {"OneRow", {1, 5}},
    {"OddRows", {33, 7}},    {"LargeEps", {19, 64}, 0.5},   {"RowsOfHeads", {5, 7, 48}},
    {"WideRows", {3, 3001}}, {"Zeros", {3, 5}, 1e-6, true},
};

at::Tensor formula(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return weight * x / (x.square().mean(-1, true) + eps).sqrt();
}

class RmsNorm : public OperatorTest<at::ScalarType, Case> {
 protected:
  void SetUp() override {
    OperatorTest::SetUp();
    x_ = random_normal(c_.sizes, dtype_, 1);
    if (c_.zeros) x_.zero_();
    dy_ = random_normal(c_.sizes, dtype_, 2);
    weight_ = (random_normal({c_.sizes.back()}, at::kFloat, 3) * 0.2 + 1).to(dtype_);
  }
  const at::ScalarType dtype_ = std::get<1>(GetParam());
  const Case& c_ = std::get<2>(GetParam());
  at::Tensor x_, dy_, weight_;
};

TEST_P(RmsNorm, ValuesAndGradientsAreThoseOfTheFormula) {
  const at::Tensor leaf = leaf_of(x_), wanted = formula(leaf, as_double(weight_), c_.eps);
  const at::Tensor d_wanted = torch::autograd::grad({(wanted * as_double(dy_)).sum()}, {leaf})[0];
  const at::Tensor rstd = 1 / (as_double(x_).square().mean(-1) + c_.eps).sqrt();
  const at::Tensor x = moved(x_), weight = moved(weight_), dy = moved(dy_);
  for (const bool rounds : {true, false}) {
    const Normed ours = without_host_reads([&] { return rms_norm(x, weight, c_.eps, rounds); });
    EXPECT_EQ(ours.y.scalar_type(), dtype_);
    EXPECT_EQ(ours.y.device(), x.device());
    expect_near(ours.y, wanted, tolerance_of(dtype_), "y");
    // fp32 whatever the dtype of x.
    EXPECT_EQ(ours.rstd.scalar_type(), at::kFloat);
    expect_near(ours.rstd, rstd.flatten(), tolerance_of(at::kFloat), "rstd");
    const at::Tensor dx =
        without_host_reads([&] { return rms_norm_input_gradient(dy, x, weight, ours.rstd); });
    EXPECT_EQ(dx.scalar_type(), dtype_);
    expect_near(dx, d_wanted, tolerance_of(dtype_), "dx");
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, RmsNorm, on_all_devices_in_both_dtypes(kCases), NamesOfParams());

class RmsNormRounding : public OperatorTest<> {};

// The two ways differ in a third of the elements; which neighbour a number near a tie goes to may
// depend on the device.
TEST_P(RmsNormRounding, IsBeforeTheWeightOrAfterItAsAsked) {
  const at::Tensor x = random_normal({64, 96}, at::kBFloat16, 5);
  const at::Tensor weight = (random_normal({96}, at::kFloat, 6) * 0.2 + 1).to(at::kBFloat16);
  const at::Tensor wide = as_double(weight);
  const at::Tensor normed = formula(as_double(x), at::ones({96}, at::kDouble), 1e-6);
  const at::Tensor before = (as_double(normed.to(at::kBFloat16)) * wide).to(at::kBFloat16);
  const at::Tensor after = (normed * wide).to(at::kBFloat16);
  const auto differing = [](const at::Tensor& one, const at::Tensor& other) {
    return one.cpu().ne(other).to(at::kDouble).mean().item<double>();
  };
  ASSERT_GT(differing(before, after), 0.1);
  EXPECT_LT(differing(rms_norm(moved(x), moved(weight), 1e-6, true).y, before), 0.005);
  EXPECT_LT(differing(rms_norm(moved(x), moved(weight), 1e-6, false).y, after), 0.005);
}

INSTANTIATE_TEST_SUITE_P(Ops, RmsNormRounding, on_all_devices(), NamesOfParams());

}  // namespace
}  // namespace sutor::ops
