// Rows of numbers for tests of the GPU's kernels: random ones, and beside expected ones.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <type_traits>
#include <vector>

#include "csrc/ops/cuda/rows/number.h"

namespace sutor::ops::cuda {

using Doubles = std::vector<double>;

inline std::mt19937& generator() {
  static std::mt19937 numbers(1);
  return numbers;
}

// Numbers that T holds exactly.
template <typename T>
std::vector<T> random_row(int64_t count, float spread = 1) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<T> row(static_cast<size_t>(count));
  for (T& x : row) put(x, normal(generator()));
  return row;
}

template <typename T>
Doubles doubles_of(const std::vector<T>& row) {
  Doubles values;
  for (const T& x : row) values.push_back(get(x));
  return values;
}

template <typename T>
constexpr double kTolerance = std::is_same_v<T, float> ? 2e-5 : 1e-2;

template <typename T>
void expect_near(const std::vector<T>& got, const Doubles& expected,
                 double tolerance = kTolerance<T>) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(get(got[i]), expected[i], tolerance * (1 + std::abs(expected[i]))) << "at " << i;
  }
}

}  // namespace sutor::ops::cuda
