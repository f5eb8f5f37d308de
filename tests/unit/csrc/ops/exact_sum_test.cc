// Sums in double beside sums in long double; their bits do not change from call to call.
#include "csrc/ops/exact_sum.h"

#include <ATen/TensorOperators.h>
#include <cmath>

#include "tests/support/op_devices.h"

namespace sutor::ops {
namespace {

using namespace testing;  // NOLINT: sutor::testing

struct Case {
  const char* name;
  int64_t count;
};

const Case kCases[] = {{"Nothing", 0},     {"OneNumber", 1},    {"Five", 5},
                       {"OddCount", 4099}, {"ABlock", 1 << 20}, {"SeveralBlocks", (2 << 20) + 17}};

class ExactSum : public OperatorTest<Case> {
 protected:
  void SetUp() override {
    OperatorTest::SetUp();
    // Of magnitudes from 1e-4 to 1e4, so that an order of its own shows in the bits.
    const int64_t count = std::get<1>(GetParam()).count;
    x_ = random_normal({count}, at::kFloat, 1) * (random_uniform({count}, 2) * 18 - 9).exp();
  }
  double value(at::Tensor (*sum)(const at::Tensor&), const at::Tensor& x) const {
    const at::Tensor result = without_host_reads([&] { return sum(x); });
    EXPECT_EQ(result.scalar_type(), at::kDouble);
    EXPECT_EQ(result.dim(), 0);
    EXPECT_EQ(result.device(), x.device());
    return result.item<double>();
  }
  at::Tensor x_;
};

TEST_P(ExactSum, IsThatOfLongDoublesUpToRoundingInDouble) {
  long double sum = 0, squares = 0, magnitudes = 0;
  for (int64_t i = 0; i < x_.numel(); ++i) {
    const long double value = x_.data_ptr<float>()[i];
    sum += value, squares += value * value, magnitudes += std::abs(value);
  }
  const at::Tensor x = moved(x_);
  // No order of adding in double is further off; sums in fp32 are.
  EXPECT_LE(std::abs(value(sum_in_order, x) - sum), 1e-12L * magnitudes);
  EXPECT_LE(std::abs(value(sum_of_squares, x) - squares), 1e-12L * squares);
}

TEST_P(ExactSum, HasTheSameBitsAtEveryCallAndWithAnyNumberOfThreads) {
  const at::Tensor x = moved(x_);
  const double sum = value(sum_in_order, x), squares = value(sum_of_squares, x);
  const int before = at::get_num_threads();
  for (const int threads : {1, 2, 3, before}) {
    at::set_num_threads(threads);
    EXPECT_EQ(value(sum_in_order, x), sum) << threads;
    EXPECT_EQ(value(sum_of_squares, x), squares) << threads;
  }
}

TEST_P(ExactSum, IsInOrderOnTheCpu) {
  if (place() == OpDevice::kCuda) GTEST_SKIP() << "a GPU has an order of its own";
  double sum = 0;
  for (int64_t i = 0; i < x_.numel(); ++i) sum += x_.data_ptr<float>()[i];
  EXPECT_EQ(value(sum_in_order, moved(x_)), sum);
}

INSTANTIATE_TEST_SUITE_P(Ops, ExactSum, on_all_devices(kCases), NamesOfParams());

}  // namespace
}  // namespace sutor::ops
