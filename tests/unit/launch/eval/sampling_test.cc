// The choice of the next token beside what its probability is by definition: softmax of logits over
// the temperature, cut to the nucleus (arXiv 1904.09751, eq. 2) and made to add up to 1 again.
#include "launch/eval/sampling.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

namespace sutor {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

std::vector<double> probabilities(const std::vector<float>& logits, double temperature,
                                  double top_p) {
  std::vector<double> p;
  double sum = 0;
  for (const float logit : logits) sum += p.emplace_back(std::exp(logit / temperature));
  for (double& value : p) value /= sum;
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
  double before = 0, kept = 0;
  for (const size_t token : order) {
    before += std::exchange(p[token], before < top_p ? p[token] : 0);
    kept += p[token];
  }
  for (double& value : p) value /= kept;
  return p;
}

std::vector<int64_t> draws(const std::vector<float>& logits, const GenerateOptions& options,
                           int64_t prompts, int64_t positions) {
  const at::Tensor tensor = at::tensor(logits);
  std::vector<int64_t> result;
  for (int64_t prompt = 0; prompt < prompts; ++prompt) {
    for (int64_t position = 0; position < positions; ++position) {
      result.push_back(choose_token(tensor, options, prompt, position));
    }
  }
  return result;
}

std::set<int64_t> support(const std::vector<float>& logits, const GenerateOptions& options) {
  const std::vector<int64_t> drawn = draws(logits, options, 20, 100);
  return {drawn.begin(), drawn.end()};
}

TEST(SamplingTest, AtTemperatureZeroTheLikeliestIsChosenAndOfEqualOnesTheFirst) {
  GenerateOptions greedy;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    greedy.seed = seed;
    EXPECT_EQ(choose_token(at::tensor({-1.f, 3.f, 2.f}), greedy, 4, 9), 1);
    EXPECT_EQ(choose_token(at::tensor({-1.f, 2.f, 7.f, 7.f, 7.f}), greedy, 4, 9), 2);
    EXPECT_EQ(choose_token(at::zeros({50000}), greedy, 4, 9), 0);
  }
}

TEST(SamplingTest, TheLowestTemperaturesChooseTheLikeliest) {
  for (const double temperature : {1e-4, 1e-300}) {
    EXPECT_EQ(support({1.0f, 1.1f, 0.9f}, {.temperature = temperature}), (std::set<int64_t>{1}));
  }
}

// Pearson's chi-square of fixed seeds below the 99.9th percentile of its distribution.
TEST(SamplingTest, TokensComeAsOftenAsTheirProbabilitySays) {
  const std::vector<float> logits = {0.5f, -1.0f, 2.0f, 0.0f, 1.5f, -0.5f, 2.0f, -2.0f};
  struct Case {
    double temperature, top_p;
    double limit;  // of as many degrees of freedom as tokens are kept, less one
  };
  for (const Case& c : {Case{1.0, 1.0, 24.3}, Case{0.7, 1.0, 24.3}, Case{3.0, 1.0, 24.3},
                        Case{1.0, 0.9, 16.3}, Case{0.7, 0.6, 10.9}}) {
    const std::vector<double> p = probabilities(logits, c.temperature, c.top_p);
    for (const uint64_t seed : {0u, 1u, 12345u}) {
      const std::vector<int64_t> drawn =
          draws(logits, {.temperature = c.temperature, .top_p = c.top_p, .seed = seed}, 40, 50);
      double chi_square = 0;
      for (size_t token = 0; token < p.size(); ++token) {
        const double wanted = p[token] * static_cast<double>(drawn.size());
        const auto found = static_cast<double>(
            std::count(drawn.begin(), drawn.end(), static_cast<int64_t>(token)));
        if (wanted == 0) {
          EXPECT_EQ(found, 0) << token;
        } else {
          chi_square += (found - wanted) * (found - wanted) / wanted;
        }
      }
      EXPECT_LT(chi_square, c.limit) << c.temperature << " " << c.top_p << " seed " << seed;
    }
  }
}

TEST(SamplingTest, TheNucleusEndsWithTheTokenThatReachesTopP) {
  // Probabilities 1/8, 1/4, 1/2, 1/8, but for rounding.
  const float one = std::log(2.0f);
  const std::vector<float> logits = {0, one, 2 * one, 0};
  const auto kept = [&](double top_p) {
    return support(logits, {.temperature = 1, .top_p = top_p});
  };
  EXPECT_EQ(kept(1e-9), (std::set<int64_t>{2}));  // never none
  EXPECT_EQ(kept(0.49), (std::set<int64_t>{2}));
  EXPECT_EQ(kept(0.51), (std::set<int64_t>{1, 2}));
  EXPECT_EQ(kept(0.74), (std::set<int64_t>{1, 2}));
  EXPECT_EQ(kept(0.76), (std::set<int64_t>{0, 1, 2}));  // of two equal ones the first
  EXPECT_EQ(kept(0.99), (std::set<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(kept(1.0), (std::set<int64_t>{0, 1, 2, 3}));
}

TEST(SamplingTest, WhatHasNoProbabilityIsNeverDrawn) {
  EXPECT_EQ(support({kNever, 0.0f, kNever, 0.1f, kNever}, {.temperature = 1}),
            (std::set<int64_t>{1, 3}));
  EXPECT_EQ(support({kNever, kNever, -50.0f}, {.temperature = 2}), (std::set<int64_t>{2}));
  EXPECT_EQ(support({3.0f}, {.temperature = 1, .top_p = 0.5}), (std::set<int64_t>{0}));
}

TEST(SamplingTest, LogitsCountByTheirDifferencesAlone) {
  const std::vector<float> logits = {1.0f, 2.0f, 0.5f, 1.5f};
  std::vector<float> shifted;
  for (const float logit : logits) shifted.push_back(logit + 1024.0f);  // exact
  const GenerateOptions options{.temperature = 0.8, .seed = 3};
  EXPECT_EQ(draws(logits, options, 10, 20), draws(shifted, options, 10, 20));
}

TEST(SamplingTest, ADrawIsAFunctionOfSeedPromptAndPositionAlone) {
  const std::vector<float> logits(64, 0.0f);
  const at::Tensor even = at::tensor(logits);
  const GenerateOptions options{.temperature = 1, .seed = 7};
  const std::vector<int64_t> all = draws(logits, options, 8, 32);
  // In another order, and one by one.
  for (int64_t prompt = 7; prompt >= 0; --prompt) {
    for (int64_t position = 31; position >= 0; --position) {
      EXPECT_EQ(choose_token(even, options, prompt, position), all[prompt * 32 + position]);
    }
  }
  // Of 64 equal tokens two independent draws agree once in 64: of 256, four times, and hardly ever
  // twenty times.
  const auto agreements = [&](const std::vector<int64_t>& other) {
    int count = 0;
    for (size_t i = 0; i < all.size(); ++i) count += all[i] == other[i];
    return count;
  };
  EXPECT_LT(agreements(draws(logits, {.temperature = 1, .seed = 8}, 8, 32)), 20);
  std::vector<int64_t> next_prompt(all.begin() + 32, all.end()),
      next_position(all.begin() + 1, all.end());
  next_prompt.resize(all.size(), -1);
  next_position.resize(all.size(), -1);
  EXPECT_LT(agreements(next_prompt), 20);
  EXPECT_LT(agreements(next_position), 20);
}

}  // namespace
}  // namespace sutor
