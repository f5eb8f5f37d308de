// The row kernels of the GPU on the host: each over HostBlock beside a plain loop in double, and
// which rows the blocks of a grouped product get.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "csrc/ops/cpu/adamw_bf16_kernel.h"
#include "csrc/ops/cuda/kernels/groups.h"
#include "csrc/ops/cuda/rows/adamw_element.h"
#include "csrc/ops/cuda/rows/cross_entropy_row.h"
#include "csrc/ops/cuda/rows/gated_row.h"
#include "csrc/ops/cuda/rows/group_tiles.h"
#include "csrc/ops/cuda/rows/norm_row.h"
#include "csrc/ops/cuda/rows/rotary_row.h"
#include "csrc/ops/cuda/rows/sum_row.h"
#include "csrc/ops/philox.h"
#include "tests/support/number_rows.h"

namespace sutor::ops::cuda {
namespace {

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

template <typename T>
class CudaRows : public testing::Test {};
using Types = testing::Types<float, Bf16>;
TYPED_TEST_SUITE(CudaRows, Types);

constexpr int64_t kWidths[] = {1, 2, 31, 64, 257};

TYPED_TEST(CudaRows, RmsNormIsThePlainFormula) {
  for (const int64_t cols : kWidths) {
    for (const bool round : {false, true}) {
      const auto x = random_row<TypeParam>(cols), w = random_row<TypeParam>(cols);
      std::vector<TypeParam> y(x.size());
      float rstd = 0;
      rms_norm_row(HostBlock{}, x.data(), w.data(), y.data(), &rstd, cols, 1e-6f, round);
      const Doubles xs = doubles_of(x), ws = doubles_of(w);
      const double mean = std::inner_product(xs.begin(), xs.end(), xs.begin(), 0.0) / cols;
      const double scale = 1 / std::sqrt(mean + 1e-6);
      Doubles expected;
      for (size_t c = 0; c < xs.size(); ++c) expected.push_back(ws[c] * xs[c] * scale);
      expect_near(y, expected);
      EXPECT_NEAR(rstd, scale, 1e-5 * scale);
    }
  }
}

TYPED_TEST(CudaRows, RmsNormGradientIsThePlainFormula) {
  for (const int64_t cols : kWidths) {
    const auto x = random_row<TypeParam>(cols), w = random_row<TypeParam>(cols);
    const auto dy = random_row<TypeParam>(cols);
    std::vector<TypeParam> dx(x.size());
    const Doubles xs = doubles_of(x), ws = doubles_of(w), dys = doubles_of(dy);
    const double mean = std::inner_product(xs.begin(), xs.end(), xs.begin(), 0.0) / cols;
    const double scale = 1 / std::sqrt(mean + 1e-6);
    rms_norm_gradient_row(HostBlock{}, dy.data(), x.data(), w.data(), static_cast<float>(scale),
                          dx.data(), cols);
    double dot = 0;
    for (size_t c = 0; c < xs.size(); ++c) dot += dys[c] * ws[c] * xs[c];
    Doubles expected;
    for (size_t c = 0; c < xs.size(); ++c) {
      expected.push_back(scale * (dys[c] * ws[c] - xs[c] * dot * scale * scale / cols));
    }
    expect_near(dx, expected);
  }
}

TYPED_TEST(CudaRows, RotaryTurnsItsDimensionsAndCopiesTheOthers) {
  for (const bool interleaved : {false, true}) {
    const RotaryShape shape{
        .heads = 3, .head_dim = 11, .offset = 2, .half = 3, .interleaved = interleaved};
    const auto x = random_row<TypeParam>(33);
    const auto cos = random_row<float>(3), sin = random_row<float>(3);
    Doubles expected = doubles_of(x);
    for (int head = 0; head < 3; ++head) {
      for (int j = 0; j < 3; ++j) {
        const size_t first = head * 11 + 2;
        const size_t a = first + (interleaved ? 2 * j : j),
                     b = first + (interleaved ? 2 * j + 1 : j + 3);
        const double at_a = get(x[a]), at_b = get(x[b]);
        expected[a] = at_a * cos[j] - at_b * sin[j];
        expected[b] = at_b * cos[j] + at_a * sin[j];
      }
    }
    std::vector<TypeParam> y(x.size());
    rotary_row(HostBlock{}, shape, x.data(), cos.data(), sin.data(), y.data());
    expect_near(y, expected);
  }
}

TYPED_TEST(CudaRows, RotaryBackUndoesRotary) {
  RotaryShape shape{.heads = 2, .head_dim = 8, .offset = 0, .half = 4};
  const auto x = random_row<TypeParam>(16);
  std::vector<float> cos, sin;
  for (const float angle : random_row<float>(4)) {
    cos.push_back(std::cos(angle));
    sin.push_back(std::sin(angle));
  }
  std::vector<TypeParam> y(x.size()), again(x.size());
  rotary_row(HostBlock{}, shape, x.data(), cos.data(), sin.data(), y.data());
  shape.back = true;
  rotary_row(HostBlock{}, shape, y.data(), cos.data(), sin.data(), again.data());
  expect_near(again, doubles_of(x));
}

// The value of an activation in double, and its slopes by differences.
struct PlainGate {
  double alpha, limit, offset;
  double value(double gate, double up) const {
    const double g = std::min(gate, limit), u = std::clamp(up, -limit, limit);
    return (u + offset) * g * sigmoid_of(alpha * g);
  }
  double by_gate(double gate, double up) const {
    return (value(gate + 1e-6, up) - value(gate - 1e-6, up)) / 2e-6;
  }
  double by_up(double gate, double up) const {
    return (value(gate, up + 1e-6) - value(gate, up - 1e-6)) / 2e-6;
  }
};

template <typename T, typename Act>
void check_gate(const Act& act, const PlainGate& plain, bool in_place) {
  for (const int64_t width : kWidths) {
    const auto gate = random_row<T>(width, 2), up = random_row<T>(width, 2);
    const float weight = 0.75f;
    std::vector<T> out(gate.size()), d_gate(gate.size()), d_up(gate.size()), again(gate.size());
    gated_row(HostBlock{}, act, gate.data(), up.data(), weight, out.data(), width);
    std::vector<T> d_out = random_row<T>(width);
    const std::vector<T> given = d_out;
    float d_weight = 0;
    const GatedGradientRow<T> to{d_gate.data(), d_up.data(), in_place ? d_out.data() : again.data(),
                                 &d_weight};
    gated_gradient_row(HostBlock{}, act, gate.data(), up.data(), weight, d_out.data(), to, width);
    Doubles value, by_gate, by_up;
    double dot = 0;
    for (size_t i = 0; i < gate.size(); ++i) {
      const double g = get(gate[i]), u = get(up[i]), d = get(given[i]);
      value.push_back(weight * plain.value(g, u));
      by_gate.push_back(weight * d * plain.by_gate(g, u));
      by_up.push_back(weight * d * plain.by_up(g, u));
      dot += d * plain.value(g, u);
    }
    expect_near(out, value);
    expect_near(in_place ? d_out : again, value);
    expect_near(d_gate, by_gate);
    expect_near(d_up, by_up);
    EXPECT_NEAR(d_weight, dot, 1e-4 * (1 + std::abs(dot)));
  }
}

TYPED_TEST(CudaRows, SwigluAndItsGradientArePlain) {
  for (const bool in_place : {false, true}) {
    check_gate<TypeParam>(Swiglu{}, PlainGate{1, INFINITY, 0}, in_place);
  }
}

TYPED_TEST(CudaRows, ClampedGateAndItsGradientArePlain) {
  for (const bool in_place : {false, true}) {
    // No number of bf16 is the limit, where there is no slope.
    check_gate<TypeParam>(ClampedGate{1.702f, 1.501f, 1.0f}, PlainGate{1.702f, 1.501f, 1},
                          in_place);
  }
}

TYPED_TEST(CudaRows, GatedGradientsThatAreNotWantedAreLeftAlone) {
  const auto gate = random_row<TypeParam>(5), up = random_row<TypeParam>(5);
  auto d_out = random_row<TypeParam>(5);
  const Doubles before = doubles_of(d_out);
  float d_weight = 0;
  gated_gradient_row(HostBlock{}, Swiglu{}, gate.data(), up.data(), 1.0f, d_out.data(),
                     GatedGradientRow<TypeParam>{.weight = &d_weight}, 5);
  EXPECT_EQ(doubles_of(d_out), before);
  EXPECT_NE(d_weight, 0);
}

TYPED_TEST(CudaRows, RowsAreSummedInTheirOrder) {
  const int64_t cols = 7;
  const auto rows = random_row<TypeParam>(4 * cols);
  for (const std::vector<int64_t>& position :
       {std::vector<int64_t>{}, std::vector<int64_t>{3}, std::vector<int64_t>{2, 0, 3}}) {
    std::vector<TypeParam> y(cols), expected(cols);
    sum_of_rows(HostBlock{}, rows.data(), position.data(), std::ssize(position), y.data(), cols);
    for (int64_t c = 0; c < cols; ++c) {
      float sum = 0;
      for (const int64_t row : position) sum += get(rows[row * cols + c]);
      put(expected[c], sum);
    }
    EXPECT_EQ(doubles_of(y), doubles_of(expected));
  }
}

TYPED_TEST(CudaRows, BiasesAreAddedWithTheirWeight) {
  const auto bias = random_row<TypeParam>(9), x = random_row<TypeParam>(9);
  auto y = random_row<TypeParam>(9);
  Doubles expected = doubles_of(y);
  double dot = 2;
  for (size_t c = 0; c < bias.size(); ++c) {
    expected[c] += 0.5 * get(bias[c]);
    dot += double{get(bias[c])} * get(x[c]);
  }
  add_bias_row(HostBlock{}, bias.data(), 0.5f, y.data(), 9);
  expect_near(y, expected);
  float sum = 2;
  add_bias_dot(HostBlock{}, x.data(), bias.data(), &sum, 9);
  EXPECT_NEAR(sum, dot, 1e-4);
}

TEST(CudaCrossEntropy, IsThePlainFormula) {
  for (const int64_t vocab : {1, 2, 33, 1000}) {
    const std::vector<float> logits = random_row<float>(vocab, 4);
    const auto largest = std::max_element(logits.begin(), logits.end()) - logits.begin();
    for (const int64_t target : {int64_t{0}, vocab - 1, static_cast<int64_t>(largest)}) {
      std::vector<float> gradient = logits;
      float loss = -1;
      uint8_t correct = 2;
      cross_entropy_row(HostBlock{}, gradient.data(), target, 0.25f, &loss, &correct, vocab);
      double sum = 0;
      for (const float logit : logits) sum += std::exp(double{logit});
      Doubles expected;
      for (const float logit : logits) expected.push_back(0.25 * std::exp(double{logit}) / sum);
      expected[target] -= 0.25;
      expect_near(gradient, expected);
      EXPECT_NEAR(loss, std::log(sum) - logits[target], 1e-5);
      EXPECT_EQ(correct, target == largest);
    }
  }
}

TEST(CudaCrossEntropy, LargeLogitsDoNotOverflow) {
  std::vector<float> logits{-3e4f, 3e4f, 2.9e4f};
  float loss = -1;
  uint8_t correct = 2;
  cross_entropy_row(HostBlock{}, logits.data(), 0, 1.0f, &loss, &correct, 3);
  EXPECT_EQ(logits, (std::vector<float>{-1, 1, 0}));
  EXPECT_EQ(loss, 6e4f);
  EXPECT_EQ(correct, 0);
}

TEST(CudaAdamW, HasTheBitsOfTheCpu) {
  const int64_t count = 1000;
  const uint64_t first = (uint64_t{1} << 32) - 500;  // both words of the index change
  const AdamWBf16Step step =
      adamw_bf16_at({1e-3, 0.9, 0.95, 1e-8, 0.1}, {7, 3, 0x123456789abc}, true);
  auto weight = random_row<Bf16>(count), exp_avg = random_row<Bf16>(count, 0.1f);
  auto exp_avg_sq = random_row<Bf16>(count, 0.1f);
  for (Bf16& x : exp_avg_sq) x.bits &= 0x7fff;  // not negative
  const auto grad = random_row<float>(count);
  std::vector<BFloat> cpu[3];
  for (int i = 0; i < 3; ++i) {
    for (const Bf16 x : i == 0 ? weight : i == 1 ? exp_avg : exp_avg_sq) cpu[i].push_back({x.bits});
  }
  adamw_bf16_step(step, first, cpu[0].data(), cpu[1].data(), cpu[2].data(), grad.data(), count);
  for (int64_t i = 0; i < count; ++i) {
    adamw_bf16_element(step, first + i, weight[i], exp_avg[i], exp_avg_sq[i], grad[i]);
    EXPECT_EQ(weight[i].bits, cpu[0][i].bits) << "weight " << i;
    EXPECT_EQ(exp_avg[i].bits, cpu[1][i].bits) << "exp_avg " << i;
    EXPECT_EQ(exp_avg_sq[i].bits, cpu[2][i].bits) << "exp_avg_sq " << i;
  }
}

// As Random123 states it: two products a round, their halves crossed.
PhiloxWords plain_philox(PhiloxWords x, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = 3528531795ull * x.x0, b = 3449720151ull * x.x2;
    x = {static_cast<uint32_t>(b / 4294967296ull) ^ x.x1 ^ key0, static_cast<uint32_t>(b),
         static_cast<uint32_t>(a / 4294967296ull) ^ x.x3 ^ key1, static_cast<uint32_t>(a)};
    key0 += 2654435769u;
    key1 += 3144134277u;
  }
  return x;
}

TEST(CudaAdamW, RandomWordsAreThoseOfPhilox) {
  for (uint32_t i = 0; i < 100; ++i) {
    const PhiloxWords words = philox4x32({i, i * 7, ~i, 3}, 5 * i, 11);
    const PhiloxWords expected = plain_philox({i, i * 7, ~i, 3}, 5 * i, 11);
    EXPECT_EQ(words.x0, expected.x0);
    EXPECT_EQ(words.x1, expected.x1);
    EXPECT_EQ(words.x2, expected.x2);
    EXPECT_EQ(words.x3, expected.x3);
  }
}

TEST(CudaAdamW, IndexFollowsColumnsOfRows) {
  const ElementIndex columns{.row_begin = 2, .col_begin = 3, .columns = 4, .row_elements = 10};
  EXPECT_EQ(columns.of(0), 23u);
  EXPECT_EQ(columns.of(3), 26u);
  EXPECT_EQ(columns.of(4), 33u);
  const ElementIndex rows{.row_begin = 2, .columns = 10, .row_elements = 10};
  EXPECT_EQ(rows.of(0), 20u);
  EXPECT_EQ(rows.of(25), 45u);
}

// Offsets of groups of so many rows.
std::vector<int64_t> offsets_of(const std::vector<int64_t>& rows) {
  std::vector<int64_t> offsets{0};
  for (const int64_t n : rows) offsets.push_back(offsets.back() + n);
  return offsets;
}

std::vector<std::vector<int64_t>> groupings() {
  std::vector<std::vector<int64_t>> all = {{0},
                                           {1},
                                           {16},
                                           {17},
                                           {0, 0, 0},
                                           {1, 0, 0},
                                           {0, 0, 1},
                                           {100, 0, 0},
                                           {0, 100, 0},
                                           {15, 1, 16, 17},
                                           {3, 0, 0, 45, 16, 0, 1},
                                           {16, 16, 16}};
  std::uniform_int_distribution<int64_t> rows(0, 40), none(0, 2);
  for (int i = 0; i < 50; ++i) {
    std::vector<int64_t> counts(1 + i % 9);
    for (int64_t& n : counts) n = none(generator()) == 0 ? 0 : rows(generator());
    all.push_back(counts);
  }
  return all;
}

TEST(GroupTiles, CoverEveryRowOnceWithinItsGroup) {
  for (const std::vector<int64_t>& counts : groupings()) {
    const std::vector<int64_t> offsets = offsets_of(counts);
    const int64_t groups = std::ssize(counts), all = offsets.back();
    for (const int64_t tile_rows : {1, 16, 64}) {
      // More rows than the groups have: those of groups that are left out.
      for (const int64_t rows : {all, all + 37}) {
        std::vector<int> covered(all, 0);
        for (int64_t t = 0; t < count_tiles(rows, groups, tile_rows); ++t) {
          const GroupTile tile = tile_at(offsets.data(), groups, tile_rows, t);
          if (tile.rows == 0) continue;
          ASSERT_LE(tile.rows, tile_rows);
          ASSERT_GE(tile.row, offsets[tile.group]);
          ASSERT_LE(tile.row + tile.rows, offsets[tile.group + 1]);
          for (int64_t r = 0; r < tile.rows; ++r) ++covered[tile.row + r];
        }
        EXPECT_EQ(std::count(covered.begin(), covered.end(), 1), all);
      }
    }
  }
}

TEST(GroupTiles, GroupOfRowHasTheRow) {
  for (const std::vector<int64_t>& counts : groupings()) {
    const std::vector<int64_t> offsets = offsets_of(counts);
    for (int64_t row = 0; row < offsets.back(); ++row) {
      const int64_t group = group_of_row(offsets.data(), std::ssize(counts), row);
      EXPECT_LE(offsets[group], row);
      EXPECT_GT(offsets[group + 1], row);
    }
  }
}

TEST(GroupTiles, StacksHoldTheTrainedOnesFirst) {
  const std::vector<float> trained(2 * 3), frozen(4 * 3);
  const Stacks<float> stacks{trained.data(), frozen.data(), 2, 3};
  EXPECT_EQ(stacks.of(1), trained.data() + 3);
  EXPECT_EQ(stacks.of(2), frozen.data());
  EXPECT_EQ(stacks.of(5), frozen.data() + 9);
}

}  // namespace
}  // namespace sutor::ops::cuda
