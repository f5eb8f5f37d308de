// The GPU's products of grouped rows, on threads of the host (tests/support/cuda_emulation/),
// beside plain loops in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "csrc/ops/cuda/kernels/grouped_mm.h"
#include "tests/support/number_rows.h"

namespace sutor::ops::cuda {
namespace {

// Numbers that begin at an address which 16 divides, or `shift` elements after it.
template <typename T>
class Placed {
 public:
  Placed(int64_t count, int64_t shift) : all_(random_row<T>(count + shift + 16 / sizeof(T))) {
    const auto rest = reinterpret_cast<uintptr_t>(all_.data()) % 16;
    first_ = all_.data() + (16 - rest) % 16 / sizeof(T) + shift;
  }
  const T* data() const { return first_; }
  double operator[](int64_t i) const { return get(first_[i]); }

 private:
  std::vector<T> all_;
  const T* first_;
};

// Products of groups of so many rows, the first `trained` of which have trained matrices.
struct Products {
  std::vector<int64_t> counts;
  int64_t out, in;
  int64_t trained = 0;
  int64_t used = -1;      // groups the kernels are given; -1: all
  int64_t misplaced = 0;  // elements from an aligned address to the numbers
};

constexpr float kUntouched = 640;

template <typename T>
void check(const Products& given) {
  const auto [counts, out, in, trained, all_used, misplaced] = given;
  std::vector<int64_t> offsets{0};
  for (const int64_t count : counts) offsets.push_back(offsets.back() + count);
  const int64_t groups = std::ssize(counts), rows = offsets.back();
  const int64_t used = all_used < 0 ? groups : all_used;
  const Placed<T> x(rows * in, misplaced), dy(rows * out, misplaced);
  const Placed<T> first(trained * out * in, 0), last((groups - trained) * out * in, misplaced);
  const Stacks<T> w{trained > 0 ? first.data() : nullptr, trained < groups ? last.data() : nullptr,
                    trained, out * in};
  T untouched;
  put(untouched, kUntouched);
  std::vector<T> y(rows * out, untouched), dx(rows * in, untouched);
  std::vector<float> grad(trained * out * in, 0.5f);
  launch_grouped_mm_transposed({offsets.data(), used, rows}, {out, in}, x.data(), w, y.data(),
                               nullptr);
  launch_grouped_mm({offsets.data(), used, rows}, {out, in}, dy.data(), w, dx.data(), nullptr);
  const int64_t summed = std::min(trained, used);
  launch_grouped_add_products({offsets.data(), summed, rows}, {out, in}, dy.data(), x.data(),
                              grad.data(), nullptr);

  Doubles expected_y(y.size(), kUntouched), expected_dx(dx.size(), kUntouched);
  Doubles expected_grad(grad.size(), 0.5);
  for (int64_t g = 0; g < used; ++g) {
    for (int64_t r = offsets[g]; r < offsets[g + 1]; ++r) {
      for (int64_t o = 0; o < out; ++o) expected_y[r * out + o] = 0;
      for (int64_t i = 0; i < in; ++i) expected_dx[r * in + i] = 0;
      for (int64_t o = 0; o < out; ++o) {
        for (int64_t i = 0; i < in; ++i) {
          const double weight = get(w.of(g)[o * in + i]);
          expected_y[r * out + o] += x[r * in + i] * weight;
          expected_dx[r * in + i] += dy[r * out + o] * weight;
          if (g < trained) expected_grad[(g * out + o) * in + i] += dy[r * out + o] * x[r * in + i];
        }
      }
    }
  }
  const double rounding = std::is_same_v<T, float> ? 1e-4 : 1e-2;
  expect_near(y, expected_y, rounding);
  expect_near(dx, expected_dx, rounding);
  expect_near(grad, expected_grad, 1e-4);
}

template <typename T>
class CudaProductsEmulated : public testing::Test {};
using Types = testing::Types<float, Bf16>;
TYPED_TEST_SUITE(CudaProductsEmulated, Types);

TYPED_TEST(CudaProductsEmulated, GroupsMayBeEmptyOrHaveOneRow) {
  check<TypeParam>({.counts = {0, 1, 20, 0, 3}, .out = 24, .in = 40, .trained = 2});
}

TYPED_TEST(CudaProductsEmulated, AllRowsMayBeInOneGroup) {
  check<TypeParam>({.counts = {0, 0, 40}, .out = 24, .in = 8, .trained = 3});
}

TYPED_TEST(CudaProductsEmulated, ThereMayBeNoRows) {
  check<TypeParam>({.counts = {0, 0}, .out = 8, .in = 8, .trained = 1});
}

TYPED_TEST(CudaProductsEmulated, TilesMayEndAnywhere) {
  // More than one tile of rows and of columns, either way.
  check<TypeParam>({.counts = {3, 130}, .out = 136, .in = 72, .trained = 2});
  check<TypeParam>({.counts = {1, 0, 5}, .out = 72, .in = 136, .trained = 2});
}

TYPED_TEST(CudaProductsEmulated, SizesMayBeOdd) {
  check<TypeParam>({.counts = {2, 129}, .out = 131, .in = 37, .trained = 1});
  check<TypeParam>({.counts = {7}, .out = 1, .in = 1, .trained = 1});
}

TYPED_TEST(CudaProductsEmulated, PointersMayBeMisaligned) {
  check<TypeParam>({.counts = {0, 20}, .out = 16, .in = 40, .trained = 1, .misplaced = 1});
}

TYPED_TEST(CudaProductsEmulated, AnySplitOfTrainedAndFrozenIsFine) {
  for (const int64_t trained : {0, 2}) {
    check<TypeParam>({.counts = {9, 4}, .out = 16, .in = 24, .trained = trained});
  }
}

TYPED_TEST(CudaProductsEmulated, RowsOfOtherGroupsAreLeftAlone) {
  check<TypeParam>({.counts = {5, 64, 2}, .out = 64, .in = 48, .trained = 3, .used = 2});
}

}  // namespace
}  // namespace sutor::ops::cuda
