// The kernels of every level that this CPU runs beside plain loops in double, and the choice of
// one.
#include "csrc/ops/cpu/kernels/kernel_levels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "csrc/ops/cpu/kernel_level.h"
#include "tests/support/expect_error.h"

namespace sutor::ops {
namespace {

float value_of(float x) { return x; }
float value_of(BFloat x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

template <typename T>
std::vector<T> random_values(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> values(-2, 2);
  std::vector<T> result(static_cast<size_t>(count));
  for (T& element : result) {
    const float value = values(random);
    if constexpr (std::is_same_v<T, float>) {
      element = value;
    } else {
      uint32_t bits;
      std::memcpy(&bits, &value, 4);
      element.bits = static_cast<uint16_t>(bits >> 16);
    }
  }
  return result;
}

// Of one rounding to T, and of sums in fp32.
template <typename T>
void expect_near(double expected, T found, double size, const char* what) {
  const double relative = std::is_same_v<T, float> ? 2e-6 : 1.0 / 256;
  EXPECT_NEAR(expected, value_of(found), relative * (std::abs(expected) + size)) << what;
}

std::vector<KernelLevel> runnable_levels() {
  std::vector<KernelLevel> levels;
  for (const KernelLevel& level : kernel_levels()) {
    if (level.runs_here) levels.push_back(level);
  }
  return levels;
}

class KernelsOfLevel : public ::testing::TestWithParam<KernelLevel> {
 protected:
  template <typename T>
  const ElementKernels<T>& of() const {
    if constexpr (std::is_same_v<T, float>) return table.of_float;
    if constexpr (std::is_same_v<T, BFloat>) return table.of_bfloat;
  }
  template <typename Use>
  void for_shapes(const Use& use) const {
    for (const int64_t cols : {2, 30, 64, 130}) {
      use(float{}, 5, cols);
      use(BFloat{}, 5, cols);
    }
  }

  const KernelTable table = GetParam().table();
};

TEST_P(KernelsOfLevel, RmsNormAndItsGradientAreTheFormulas) {
  for_shapes([&]<typename T>(T, int64_t rows, int64_t cols) {
    const auto x = random_values<T>(rows * cols, 1), w = random_values<T>(cols, 2);
    const auto dy = random_values<T>(rows * cols, 3);
    std::vector<T> y(x.size()), dx(x.size());
    std::vector<float> rstd(static_cast<size_t>(rows));
    of<T>().rms_norm_forward(x.data(), w.data(), y.data(), rstd.data(), rows, cols, 1e-5F, false);
    of<T>().rms_norm_backward(dy.data(), x.data(), w.data(), rstd.data(), dx.data(), rows, cols);
    for (int64_t r = 0; r < rows; ++r) {
      double squares = 0, dot = 0;
      for (int64_t c = 0; c < cols; ++c) {
        const double value = value_of(x[r * cols + c]);
        squares += value * value;
        dot += value_of(dy[r * cols + c]) * value_of(w[c]) * value;
      }
      const double scale = 1 / std::sqrt(squares / cols + 1e-5);
      EXPECT_NEAR(rstd[r], scale, 1e-5 * scale);
      for (int64_t c = 0; c < cols; ++c) {
        const double value = value_of(x[r * cols + c]), weight = value_of(w[c]);
        const double grad = value_of(dy[r * cols + c]) * weight;
        expect_near(weight * value * scale, y[r * cols + c], 1, "y");
        const double mean = dot * scale * scale / cols;
        expect_near(scale * (grad - value * mean), dx[r * cols + c], 10, "dx");
      }
    }
  });
}

TEST_P(KernelsOfLevel, ActivationsAreTheFormula) {
  for (const GatedActivation& act : {GatedActivation{}, GatedActivation{1.702F, 1.5F, 1}}) {
    for_shapes([&]<typename T>(T, int64_t rows, int64_t cols) {
      const auto gate = random_values<T>(rows * cols, 1), up = random_values<T>(rows * cols, 2);
      const auto d_out = random_values<T>(rows * cols, 3);
      std::vector<T> out(gate.size()), d_gate(gate.size()), d_up(gate.size());
      of<T>().activation_forward(act, gate.data(), up.data(), cols, nullptr, out.data(), rows,
                                 cols);
      of<T>().activation_backward(act, gate.data(), up.data(), cols, nullptr, d_out.data(),
                                  d_gate.data(), d_up.data(), nullptr, nullptr, rows, cols);
      for (size_t i = 0; i < out.size(); ++i) {
        const double g = std::min<double>(value_of(gate[i]), act.limit);
        const double u = std::clamp<double>(value_of(up[i]), -act.limit, act.limit);
        const double s = 1 / (1 + std::exp(-act.alpha * g)), d = value_of(d_out[i]);
        const bool inside = value_of(gate[i]) <= act.limit;
        const bool up_inside = std::abs(value_of(up[i])) <= act.limit;
        expect_near((u + act.up_offset) * g * s, out[i], 1, "out");
        const double slope = (u + act.up_offset) * s * (1 + act.alpha * g * (1 - s));
        expect_near(inside ? d * slope : 0, d_gate[i], 1, "d_gate");
        expect_near(up_inside ? d * g * s : 0, d_up[i], 1, "d_up");
      }
    });
  }
}

TEST_P(KernelsOfLevel, RowsAreSummedGatheredConvertedAndRotated) {
  for_shapes([&]<typename T>(T, int64_t rows, int64_t cols) {
    const auto x = random_values<T>(rows * cols, 1);
    std::vector<int64_t> index = {4, 0, 0, 3, 1, 2, 2, 2, 0, 4};
    std::vector<T> sums(x.size()), taken(x.size()), turned(x.size()), back(x.size());
    std::vector<float> floats(x.size());
    of<T>().sum_rows(x.data(), index.data(), sums.data(), rows, 2, cols);
    of<T>().gather_rows(x.data(), index.data(), taken.data(), rows, cols);
    of<T>().load_rows(x.data(), cols, floats.data(), cols, rows, cols);
    of<T>().store_rows(floats.data(), cols, back.data(), cols, rows, cols);
    EXPECT_EQ(std::memcmp(back.data(), x.data(), x.size() * sizeof(T)), 0);
    const auto cos = random_values<float>(cols / 2, 2), sin = random_values<float>(cols / 2, 3);
    of<T>().rotate(x.data(), turned.data(), cos.data(), sin.data(), rows, cols, cols, -1, true);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        const auto at = [&](int64_t row, int64_t col) { return value_of(x[row * cols + col]); };
        expect_near(at(index[2 * r], c) + at(index[2 * r + 1], c), sums[r * cols + c], 0, "sum");
        EXPECT_EQ(at(index[r], c), value_of(taken[r * cols + c]));
        EXPECT_EQ(at(r, c), floats[r * cols + c]);
        const int64_t j = c / 2;
        const double other = at(r, c % 2 == 0 ? c + 1 : c - 1) * sin[j] * (c % 2 == 0 ? 1 : -1);
        expect_near(at(r, c) * cos[j] + other, turned[r * cols + c], 4, "turned");
      }
    }
  });
}

TEST_P(KernelsOfLevel, SoftmaxSeesItsWindowAloneAndItsGradientIsTheFormula) {
  constexpr int64_t kRows = 9, kCols = 37;
  const CausalMask mask{20, 12};
  const auto scores = random_values<float>(kRows * kCols, 1);
  std::vector<float> p = scores, again = scores, lse(kRows), delta(kRows);
  table.causal_softmax(p.data(), kRows, kCols, mask, 0.3F, lse.data(), 0.5F);
  table.causal_probabilities(again.data(), kRows, kCols, mask, 0.3F, lse.data());
  const auto gradient = random_values<float>(kRows * kCols, 2);
  std::vector<float> ds = gradient;
  table.row_dots(p.data(), gradient.data(), delta.data(), kRows, kCols);
  table.softmax_backward(p.data(), ds.data(), delta.data(), kRows, kCols, 0.3F);
  for (int64_t r = 0; r < kRows; ++r) {
    const int64_t end = std::min(kCols, mask.first_visible + r + 1),
                  begin = end - mask.sliding_window;
    double sum = std::exp(0.5), dot = 0;
    for (int64_t c = begin; c < end; ++c) sum += std::exp(0.3 * scores[r * kCols + c]);
    EXPECT_NEAR(lse[r], std::log(sum), 1e-5);
    for (int64_t c = begin; c < end; ++c) {
      dot += std::exp(0.3 * scores[r * kCols + c]) / sum * gradient[r * kCols + c];
    }
    for (int64_t c = 0; c < kCols; ++c) {
      const int64_t i = r * kCols + c;
      const bool seen = c >= begin && c < end;
      const double expected = seen ? std::exp(0.3 * scores[i]) / sum : 0;
      EXPECT_NEAR(p[i], expected, 1e-6);
      EXPECT_NEAR(again[i], expected, 1e-6);
      EXPECT_NEAR(ds[i], expected * (gradient[i] - dot) * 0.3, 1e-6);
    }
  }
}

TEST_P(KernelsOfLevel, CrossEntropyAndSumsOfSquaresAreTheFormulas) {
  constexpr int64_t kRows = 3, kVocab = 2100;
  const auto logits = random_values<float>(kRows * kVocab, 1);
  const std::vector<int64_t> target = {0, 1500, 2099};
  std::vector<float> gradient = logits, loss(kRows);
  std::vector<uint8_t> correct(kRows);
  table.cross_entropy(gradient.data(), target.data(), loss.data(), correct.data(), kRows, kVocab,
                      0.5F);
  for (int64_t r = 0; r < kRows; ++r) {
    double sum = 0;
    for (int64_t v = 0; v < kVocab; ++v) sum += std::exp(logits[r * kVocab + v]);
    EXPECT_NEAR(loss[r], std::log(sum) - logits[r * kVocab + target[r]], 1e-5);
    for (int64_t v = 0; v < kVocab; ++v) {
      const double p = std::exp(logits[r * kVocab + v]) / sum;
      EXPECT_NEAR(gradient[r * kVocab + v], 0.5 * (p - (v == target[r])), 1e-6);
    }
  }
  double squares = 0;
  for (const float x : logits) squares += static_cast<double>(x) * x;
  EXPECT_NEAR(table.sum_of_squares(logits.data(), kRows * kVocab), squares, 1e-9 * squares);
}

TEST_P(KernelsOfLevel, TransposingMovesEveryWord) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{16, 16}, {5, 37}, {33, 20}}) {
    const int64_t stride = (rows + 15) / 16 * 16;
    const auto from = random_values<float>(rows * cols, 1);
    std::vector<float> turned(static_cast<size_t>(cols * stride), -1), back(from.size());
    table.transpose(from.data(), cols, rows, cols, turned.data(), stride);
    table.of_float.transpose_back(turned.data(), stride, cols, rows, back.data(), cols);
    for (int64_t c = 0; c < cols; ++c) {
      for (int64_t r = 0; r < stride; ++r) {
        EXPECT_EQ(turned[c * stride + r], r < rows ? from[r * cols + c] : 0);
      }
    }
    EXPECT_EQ(back, from);
  }
  const auto from = random_values<BFloat>(4 * 21, 1);
  std::vector<uint32_t> pairs(2 * 21);
  table.interleave_pairs(from.data(), 21, 4, 21, pairs.data());
  for (int64_t i = 0; i < 2 * 21; ++i) {
    const int64_t r = i / 21 * 2, c = i % 21;
    EXPECT_EQ(pairs[i], from[r * 21 + c].bits | uint32_t{from[(r + 1) * 21 + c].bits} << 16);
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, KernelsOfLevel, ::testing::ValuesIn(runnable_levels()),
                         [](const auto& info) {
                           std::string name = info.param.name;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

std::vector<KernelLevel> three_levels() {
  return {{"low", true, nullptr}, {"middle", true, nullptr}, {"high", false, nullptr}};
}

TEST(KernelLevels, TheHighestThatTheCpuRunsIsChosenUnlessOneIsAskedFor) {
  const std::vector<KernelLevel> levels = three_levels();
  EXPECT_EQ(choose_level(levels, nullptr).name, "middle");
  EXPECT_EQ(choose_level(levels, "").name, "middle");
  EXPECT_EQ(choose_level(levels, "low").name, "low");
}

TEST(KernelLevels, OneThatTheCpuLacksOrThatWasNotBuiltIsRefused) {
  const std::vector<KernelLevel> levels = three_levels();
  testing::expect_error(ErrorCode::kNoKernels, {"lacks instructions", "low, middle"},
                        [&] { choose_level(levels, "high"); });
  testing::expect_error(ErrorCode::kNoKernels, {"no such kernels", "lowest"},
                        [&] { choose_level(levels, "lowest"); });
  testing::expect_error(ErrorCode::kNoKernels, {"runs none"}, [] {
    choose_level({{"high", false, nullptr}}, nullptr);
  });
}

TEST(KernelLevels, TheProcessUsesOneThatItRuns) {
  bool found = false;
  for (const KernelLevel& level : runnable_levels()) found |= level.name == kernel_level();
  EXPECT_TRUE(found) << kernel_level();
}

}  // namespace
}  // namespace sutor::ops
