// AdamW on bf16 with stochastic rounding beside a plain scalar step: the same bits wherever a run
// begins and ends, means that are exact, and random bits that are a function of seed, step, tensor
// and index alone.
#include "csrc/ops/cpu/adamw_bf16_kernel.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <vector>

#include "csrc/base/random.h"
#include "tests/support/plain_adamw_bf16.h"

namespace sutor::ops {
namespace {

struct State {
  std::vector<BFloat> weight, exp_avg, exp_avg_sq;
  std::vector<float> grad;
};

const AdamWConstants kConstants{
    .lr = 3e-4, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};

float value(BFloat x) { return testing::float_of_bf16(x.bits); }
// Of a float whose lower half is zero.
BFloat exact(float x) { return {static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16)}; }

State random_state(int64_t count) {
  State state;
  for (int64_t i = 0; i < count; ++i) {
    const auto draw = [&](uint64_t which) {
      return static_cast<float>(unit_of(mix64(static_cast<uint64_t>(4 * i) + which)) - 0.5);
    };
    state.weight.push_back(exact(draw(0)));
    state.exp_avg.push_back(exact(draw(1) * 1e-3f));
    state.exp_avg_sq.push_back(exact(std::abs(draw(2)) * 1e-5f));
    state.grad.push_back(i % 7 == 0 ? 0.0f : draw(3) * 1e-2f);
  }
  return state;
}

void run(const AdamWBf16Step& step, uint64_t first, State& state, int64_t begin, int64_t end) {
  adamw_bf16_step(step, first + static_cast<uint64_t>(begin), state.weight.data() + begin,
                  state.exp_avg.data() + begin, state.exp_avg_sq.data() + begin,
                  state.grad.data() + begin, end - begin);
}

void expect_same(const State& a, const State& b) {
  for (size_t i = 0; i < a.weight.size(); ++i) {
    ASSERT_EQ(a.weight[i].bits, b.weight[i].bits) << "weight " << i;
    ASSERT_EQ(a.exp_avg[i].bits, b.exp_avg[i].bits) << "exp_avg " << i;
    ASSERT_EQ(a.exp_avg_sq[i].bits, b.exp_avg_sq[i].bits) << "exp_avg_sq " << i;
  }
}

TEST(AdamWBf16Kernel, EqualsThePlainStepBitForBit) {
  constexpr int64_t kCount = 20011;
  for (const int64_t step : {1, 2, 7, 1000}) {
    // Beyond 2^32 too, and over that border.
    for (const uint64_t first : {uint64_t{0}, uint64_t{13}, (uint64_t{1} << 32) - 300}) {
      const RoundingStream stream{42, step, 0x0123456789abcdef};
      State ours = random_state(kCount), plain = ours;
      run(adamw_bf16_at(kConstants, stream, true), first, ours, 0, kCount);
      for (int64_t i = 0; i < kCount; ++i) {
        testing::plain_adamw_bf16(kConstants, stream, true, first + static_cast<uint64_t>(i),
                                  plain.weight[i].bits, plain.exp_avg[i].bits,
                                  plain.exp_avg_sq[i].bits, plain.grad[i]);
      }
      expect_same(ours, plain);
    }
  }
}

TEST(AdamWBf16Kernel, WhereRunsBeginAndEndDoesNotShow) {
  constexpr int64_t kCount = 5000;
  const AdamWBf16Step step = adamw_bf16_at(kConstants, {7, 3, 99}, false);
  State whole = random_state(kCount);
  run(step, 10, whole, 0, kCount);
  for (const int64_t width : {1, 3, 16, 17, 255, 256, 257, 4999}) {
    State pieces = random_state(kCount);
    for (int64_t begin = 0; begin < kCount; begin += width) {
      run(step, 10, pieces, begin, std::min(begin + width, kCount));
    }
    expect_same(pieces, whole);
  }
}

int64_t differing(const State& a, const State& b) {
  int64_t count = 0;
  for (size_t i = 0; i < a.weight.size(); ++i) count += a.exp_avg[i].bits != b.exp_avg[i].bits;
  return count;
}

TEST(AdamWBf16Kernel, SeedStepTensorAndIndexEachChooseOtherRandomBits) {
  constexpr int64_t kCount = 4000;
  const auto after = [&](const RoundingStream& stream, uint64_t first) {
    State state = random_state(kCount);
    AdamWBf16Step step = adamw_bf16_at(kConstants, {1, 5, 9}, true);
    const AdamWBf16Step bits = adamw_bf16_at(kConstants, stream, true);
    step.key0 = bits.key0, step.key1 = bits.key1, step.name0 = bits.name0, step.name1 = bits.name1;
    run(step, first, state, 0, kCount);
    return state;
  };
  const State one = after({1, 5, 9}, 0);
  EXPECT_EQ(differing(one, after({1, 5, 9}, 0)), 0);
  EXPECT_GT(differing(one, after({2, 5, 9}, 0)), kCount / 4);
  EXPECT_GT(differing(one, after({1, 6, 9}, 0)), kCount / 4);
  EXPECT_GT(differing(one, after({1, 5, 10}, 0)), kCount / 4);
  EXPECT_GT(differing(one, after({1, 5, 9}, 1)), kCount / 4);
}

// The mean over many elements with equal state is the value before rounding.
TEST(AdamWBf16Kernel, RoundingIsUnbiasedAndToANeighbour) {
  constexpr int64_t kCount = 400000;
  const AdamWBf16Step step = adamw_bf16_at(kConstants, {3, 4, 5}, true);
  State state{std::vector<BFloat>(kCount, exact(0.7421875f)),
              std::vector<BFloat>(kCount, exact(-0.01171875f)),
              std::vector<BFloat>(kCount, exact(0.00048828125f)),
              std::vector<float>(kCount, 0.0123f)};
  const float first = step.keep1 * -0.01171875f + step.take1 * 0.0123f;
  const float second = step.keep2 * 0.00048828125f + step.take2 * 0.0123f * 0.0123f;
  const float weight =
      step.decay * 0.7421875f - step.rate * (first / (step.root * std::sqrt(second) + step.eps));
  run(step, 0, state, 0, kCount);
  const auto check = [&](const std::vector<BFloat>& rounded, float wanted, const char* what) {
    const float below = value({static_cast<uint16_t>(std::bit_cast<uint32_t>(wanted) >> 16)});
    const float above = value({static_cast<uint16_t>((std::bit_cast<uint32_t>(wanted) >> 16) + 1)});
    double sum = 0;
    for (const BFloat x : rounded) {
      ASSERT_TRUE(value(x) == below || value(x) == above) << what;
      sum += value(x);
    }
    const double share = (wanted - below) / (static_cast<double>(above) - below);
    const double deviation = std::abs(above - below) * std::sqrt(share * (1 - share) / kCount);
    EXPECT_GT(share * (1 - share), 0.02) << what << ": the case would prove little";
    EXPECT_NEAR(sum / kCount, wanted, 4 * deviation) << what;
  };
  check(state.weight, weight, "weight");
  check(state.exp_avg, first, "exp_avg");
  check(state.exp_avg_sq, second, "exp_avg_sq");
}

// (1 - beta2) g^2 is far below half a unit in the last place of exp_avg_sq.
TEST(AdamWBf16Kernel, TheSecondMomentFollowsWhereRoundingToNearestWouldHoldIt) {
  constexpr int64_t kCount = 256;
  AdamWConstants constants = kConstants;
  constants.beta2 = 0.999;
  State state{std::vector<BFloat>(kCount, exact(0.5f)), std::vector<BFloat>(kCount, exact(0.5f)),
              std::vector<BFloat>(kCount, exact(0.25f)), std::vector<float>(kCount, 0.25f)};
  const float next = 0.999f * 0.25f + 0.001f * 0.0625f;
  EXPECT_EQ((std::bit_cast<uint32_t>(next) + 0x8000) >> 16, std::bit_cast<uint32_t>(0.25f) >> 16)
      << "to nearest it would stay";
  constexpr int64_t kSteps = 2000;
  for (int64_t step = 1; step <= kSteps; ++step) {
    run(adamw_bf16_at(constants, {1, step, 2}, true), 0, state, 0, kCount);
  }
  double mean = 0;
  for (const BFloat x : state.exp_avg_sq) mean += value(x) / kCount;
  const double wanted = 0.0625 + (0.25 - 0.0625) * std::pow(0.999, kSteps);
  EXPECT_NEAR(mean, wanted, 0.03 * wanted);
}

TEST(AdamWBf16Kernel, InfinitiesAndNanStayWhatTheyAre) {
  State state{std::vector<BFloat>(64, exact(1.0f)), std::vector<BFloat>(64, exact(0.0f)),
              std::vector<BFloat>(64, exact(0.0f)), std::vector<float>(64, 3e38f)};
  for (size_t i = 0; i < 32; ++i) state.grad[i] = std::bit_cast<float>(0x7fffffffu);
  run(adamw_bf16_at(kConstants, {1, 1, 1}, true), 0, state, 0, 64);
  for (size_t i = 0; i < 32; ++i) EXPECT_TRUE(std::isnan(value(state.exp_avg_sq[i]))) << i;
  for (size_t i = 32; i < 64; ++i) EXPECT_TRUE(std::isinf(value(state.exp_avg_sq[i]))) << i;
}

}  // namespace
}  // namespace sutor::ops
