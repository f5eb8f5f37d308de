// The products for few rows against torch's mm, in shapes with tails on every axis.
#include "csrc/ops/cpu/few_rows_gemm.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

namespace sutor::ops {
namespace {

struct Shape {
  int64_t rows, depth, columns;
};

class FewRowsGemm : public testing::TestWithParam<std::tuple<Shape, at::ScalarType>> {
 protected:
  FewRowsGemm() {
    const auto [shape, dtype] = GetParam();
    at::manual_seed(static_cast<uint64_t>(shape.rows * 1000 + shape.depth));
    x = at::randn({shape.rows, shape.depth}).to(dtype);
    // With gaps between the rows, like a slice of a wider matrix.
    wide = at::full({shape.rows, shape.columns + 6}, 7.0).to(dtype);
    y = wide.narrow(1, 2, shape.columns);
  }
  void expect_product(const at::Tensor& right) {
    const at::Tensor expected = at::mm(x.to(at::kDouble), right.to(at::kDouble));
    const double tolerance = y.scalar_type() == at::kFloat ? 1e-6 : 4e-3;  // of the norm
    EXPECT_LE((y.to(at::kDouble) - expected).norm().item<double>(),
              tolerance * expected.norm().item<double>());
    EXPECT_TRUE(wide.narrow(1, 0, 2).eq(7.0).all().item<bool>());
    EXPECT_TRUE(wide.narrow(1, wide.size(1) - 4, 4).eq(7.0).all().item<bool>());
  }
  at::Tensor x, wide, y;
};

TEST_P(FewRowsGemm, TransposedEqualsMm) {
  const auto [shape, dtype] = GetParam();
  const at::Tensor w = at::randn({shape.columns, shape.depth}).to(dtype);
  few_rows_mm_transposed(x, w, y);
  expect_product(w.t());
}

TEST_P(FewRowsGemm, PlainEqualsMm) {
  const auto [shape, dtype] = GetParam();
  const at::Tensor w = at::randn({shape.depth, shape.columns}).to(dtype);
  few_rows_mm(x, w, y);
  expect_product(w);
}

TEST_P(FewRowsGemm, ResultsMayBeFp32) {
  const auto [shape, dtype] = GetParam();
  wide = at::full({shape.rows, shape.columns + 6}, 7.0f);
  y = wide.narrow(1, 2, shape.columns);
  const at::Tensor w = at::randn({shape.columns, shape.depth}).to(dtype);
  few_rows_mm_transposed(x, w, y);
  expect_product(w.t());
  few_rows_mm(x, w.t().contiguous(), y);
  expect_product(w.t());
}

TEST_P(FewRowsGemm, WeightMayBeASliceOfAWiderMatrix) {
  const auto [shape, dtype] = GetParam();
  const at::Tensor all = at::randn({shape.depth, shape.columns + 10}).to(dtype);
  few_rows_mm(x, all.narrow(1, 4, shape.columns), y);
  expect_product(all.narrow(1, 4, shape.columns));
}

INSTANTIATE_TEST_SUITE_P(Shapes, FewRowsGemm,
                         testing::Combine(testing::Values(Shape{1, 2, 1}, Shape{3, 7, 5},
                                                          Shape{16, 32, 64}, Shape{17, 34, 65},
                                                          Shape{50, 512, 96}, Shape{130, 1030, 70},
                                                          Shape{300, 64, 200}),
                                          testing::Values(at::kFloat, at::kBFloat16)));

}  // namespace
}  // namespace sutor::ops
