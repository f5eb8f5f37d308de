// Rotary position embedding beside its formula in float64, pair by pair.
#include "csrc/ops/rotary.h"

#include <torch/csrc/autograd/autograd.h>

#include "tests/support/op_devices.h"

namespace sutor::ops {
namespace {

using namespace testing;  // NOLINT: sutor::testing

struct Case {
  const char* name;
  int64_t tokens, heads, dim, offset, width;
};

const Case kCases[] = {
    {"NoTokens", 0, 7, 10, 0, 10},        {"OneToken", 1, 1, 2, 0, 2},
    {"WholeHeads", 33, 7, 10, 0, 10},     {"FirstDimensions", 33, 7, 11, 0, 6},
    {"LastDimensions", 21, 3, 24, 8, 16}, {"InTheMiddle", 5, 2, 9, 3, 4},
    {"Wide", 9, 4, 128, 0, 128},
};

at::Tensor formula(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                   int64_t offset, bool interleaved) {
  const int64_t pairs = cos.size(1);
  std::vector<at::Tensor> columns = x.unbind(2);
  for (int64_t j = 0; j < pairs; ++j) {
    const int64_t one = offset + (interleaved ? 2 * j : j);
    const int64_t other = offset + (interleaved ? 2 * j + 1 : j + pairs);
    const at::Tensor a = x.select(2, one), b = x.select(2, other);
    const at::Tensor c = cos.narrow(1, j, 1), s = sin.narrow(1, j, 1);
    columns[static_cast<size_t>(one)] = a * c - b * s;
    columns[static_cast<size_t>(other)] = a * s + b * c;
  }
  return at::stack(columns, 2);
}

class Rotary : public OperatorTest<at::ScalarType, Case> {
 protected:
  void SetUp() override {
    OperatorTest::SetUp();
    x_ = random_normal({c_.tokens, c_.heads, c_.dim}, dtype_, 1);
    const at::Tensor angles = random_normal({c_.tokens, c_.width / 2}, at::kFloat, 2) * 3;
    cos_ = angles.cos();
    sin_ = angles.sin();
  }
  at::Tensor ours(const at::Tensor& x, bool interleaved, bool back) const {
    const at::Tensor on_device = moved(x), cos = moved(cos_), sin = moved(sin_);
    return without_host_reads(
        [&] { return rotated(on_device, cos, sin, c_.offset, interleaved, back); });
  }
  const at::ScalarType dtype_ = std::get<1>(GetParam());
  const Case& c_ = std::get<2>(GetParam());
  at::Tensor x_, cos_, sin_;
};

TEST_P(Rotary, TurnsEveryPairByItsAngleAndCopiesTheOtherDimensions) {
  for (const bool interleaved : {false, true}) {
    const at::Tensor y = ours(x_, interleaved, false);
    EXPECT_EQ(y.scalar_type(), dtype_);
    EXPECT_EQ(y.device().type(), device().type());
    expect_near(y, formula(as_double(x_), as_double(cos_), as_double(sin_), c_.offset, interleaved),
                tolerance_of(dtype_), interleaved ? "interleaved" : "in halves");
    const int64_t end = c_.offset + c_.width;
    expect_same_bits(y.narrow(2, 0, c_.offset), x_.narrow(2, 0, c_.offset), "before");
    expect_same_bits(y.narrow(2, end, c_.dim - end), x_.narrow(2, end, c_.dim - end), "after");
  }
}

TEST_P(Rotary, BackIsTheGradient) {
  const at::Tensor dy = random_normal(x_.sizes(), dtype_, 3);
  for (const bool interleaved : {false, true}) {
    const at::Tensor leaf = leaf_of(x_);
    const at::Tensor y = formula(leaf, as_double(cos_), as_double(sin_), c_.offset, interleaved);
    const at::Tensor dx = torch::autograd::grad({(y * as_double(dy)).sum()}, {leaf})[0];
    expect_near(ours(dy, interleaved, true), dx, tolerance_of(dtype_),
                interleaved ? "interleaved" : "in halves");
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, Rotary, on_all_devices_in_both_dtypes(kCases), NamesOfParams());

}  // namespace
}  // namespace sutor::ops
