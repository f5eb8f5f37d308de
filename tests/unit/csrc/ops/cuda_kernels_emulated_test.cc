// The GPU's kernels of one block a row and their launchers, on threads of the host
// (tests/support/cuda_emulation/): beside HostBlock's rows, which cuda_rows_test.cc compares with
// plain formulas, or beside plain loops.
#include <gtest/gtest.h>

#include <vector>

#include "csrc/ops/cpu/adamw_bf16_kernel.h"
#include "csrc/ops/cuda/kernels/adamw_bf16.h"
#include "csrc/ops/cuda/kernels/cross_entropy.h"
#include "csrc/ops/cuda/kernels/exact_sum.h"
#include "csrc/ops/cuda/kernels/expert_bias.h"
#include "csrc/ops/cuda/kernels/gated.h"
#include "csrc/ops/cuda/kernels/rms_norm.h"
#include "csrc/ops/cuda/kernels/rotary.h"
#include "csrc/ops/cuda/kernels/sum_rows.h"
#include "csrc/ops/cuda/rows/cross_entropy_row.h"
#include "csrc/ops/cuda/rows/gated_row.h"
#include "csrc/ops/cuda/rows/norm_row.h"
#include "csrc/ops/cuda/rows/sum_row.h"
#include "tests/support/number_rows.h"

namespace sutor::ops::cuda {
namespace {

template <typename T>
class CudaKernelsEmulated : public testing::Test {};
using Types = testing::Types<float, Bf16>;
TYPED_TEST_SUITE(CudaKernelsEmulated, Types);

// A part of a warp, and more elements than a block has threads.
constexpr int64_t kWidths[] = {5, 300};

TYPED_TEST(CudaKernelsEmulated, RmsNormIsThatOfItsRows) {
  using T = TypeParam;
  const int64_t rows = 3;
  for (const int64_t cols : kWidths) {
    const auto x = random_row<T>(rows * cols), w = random_row<T>(cols);
    const auto dy = random_row<T>(rows * cols);
    std::vector<T> y(x.size()), dx(x.size()), row_y(x.size()), row_dx(x.size());
    std::vector<float> rstd(rows), row_rstd(rows);
    launch_rms_norm(x.data(), w.data(), y.data(), rstd.data(), rows, cols, 1e-6f, true, nullptr);
    launch_rms_norm_gradient(dy.data(), x.data(), w.data(), rstd.data(), dx.data(), rows, cols,
                             nullptr);
    for (int64_t r = 0; r < rows; ++r) {
      const T* row = x.data() + r * cols;
      rms_norm_row(HostBlock{}, row, w.data(), row_y.data() + r * cols, &row_rstd[r], cols, 1e-6f,
                   true);
      rms_norm_gradient_row(HostBlock{}, dy.data() + r * cols, row, w.data(), row_rstd[r],
                            row_dx.data() + r * cols, cols);
    }
    expect_near(rstd, doubles_of(row_rstd));
    expect_near(y, doubles_of(row_y));
    expect_near(dx, doubles_of(row_dx));
  }
}

TYPED_TEST(CudaKernelsEmulated, RotaryIsThatOfItsRows) {
  using T = TypeParam;
  const RotaryShape shape{.heads = 3, .head_dim = 10, .offset = 4, .half = 2, .interleaved = true};
  const auto x = random_row<T>(2 * 30);
  const auto cos = random_row<float>(2 * 2), sin = random_row<float>(2 * 2);
  std::vector<T> y(x.size()), row_y(x.size());
  launch_rotary(shape, x.data(), cos.data(), sin.data(), y.data(), 2, nullptr);
  for (int r = 0; r < 2; ++r) {
    rotary_row(HostBlock{}, shape, x.data() + r * 30, cos.data() + r * 2, sin.data() + r * 2,
               row_y.data() + r * 30);
  }
  EXPECT_EQ(doubles_of(y), doubles_of(row_y));
}

TYPED_TEST(CudaKernelsEmulated, RowsAreSummedInTheirOrder) {
  using T = TypeParam;
  const int64_t cols = 70, k = 3;
  const auto rows = random_row<T>(4 * cols);
  const std::vector<int64_t> position{3, 0, 1, 1, 2, 3};
  std::vector<T> y(2 * cols), row_y(2 * cols);
  launch_sum_rows(rows.data(), position.data(), y.data(), 2, k, cols, nullptr);
  for (int64_t t = 0; t < 2; ++t) {
    sum_of_rows(HostBlock{}, rows.data(), position.data() + t * k, k, row_y.data() + t * cols,
                cols);
  }
  EXPECT_EQ(doubles_of(y), doubles_of(row_y));
}

TYPED_TEST(CudaKernelsEmulated, SwigluOfManyElementsIsThatOfOneRow) {
  using T = TypeParam;
  for (const int64_t count : {1, 2048, 5000}) {
    const auto gate = random_row<T>(count), up = random_row<T>(count), d = random_row<T>(count);
    std::vector<T> out(count), d_gate(count), d_up(count);
    std::vector<T> row_out(count), row_gate(count), row_up(count);
    launch_swiglu(gate.data(), up.data(), out.data(), count, nullptr);
    launch_swiglu_gradients(gate.data(), up.data(), d.data(), d_gate.data(), d_up.data(), count,
                            nullptr);
    gated_row(HostBlock{}, Swiglu{}, gate.data(), up.data(), 1.0f, row_out.data(), count);
    gated_gradient_row(HostBlock{}, Swiglu{}, gate.data(), up.data(), 1.0f, d.data(),
                       GatedGradientRow<T>{row_gate.data(), row_up.data()}, count);
    expect_near(out, doubles_of(row_out));
    expect_near(d_gate, doubles_of(row_gate));
    expect_near(d_up, doubles_of(row_up));
  }
}

// Of six rows five count, and two get the output of the forward pass again.
template <typename T, typename Act>
void check_gated(const GatedActivation& activation, const Act& act) {
  const int64_t rows = 6, width = 45, ends[] = {2, 5};
  const auto gate_up = random_row<T>(rows * 2 * width), given = random_row<T>(rows * width);
  const auto weights = random_row<float>(rows);
  T untouched;
  put(untouched, 9);
  std::vector<T> out(rows * width), d_out = given, d_gate_up(gate_up.size(), untouched);
  std::vector<float> d_weights(rows, 9);
  std::vector<T> row_out(rows * width), row_d_out = given, row_d_gate_up = d_gate_up;
  std::vector<float> row_d_weights = d_weights;
  launch_gated(activation, gate_up.data(), weights.data(), out.data(), rows, width, nullptr);
  const GatedGradients<T> to{d_gate_up.data(), d_weights.data(), &ends[1], &ends[0]};
  launch_gated_gradients(activation, gate_up.data(), weights.data(), d_out.data(), to, rows, width,
                         nullptr);
  for (int64_t r = 0; r < rows; ++r) {
    const T* gate = gate_up.data() + r * 2 * width;
    gated_row(HostBlock{}, act, gate, gate + width, weights[r], row_out.data() + r * width, width);
    if (r >= ends[1]) continue;
    T *d_gate = row_d_gate_up.data() + r * 2 * width, *d_row = row_d_out.data() + r * width;
    const GatedGradientRow<T> to_row{d_gate, d_gate + width, r < ends[0] ? d_row : nullptr,
                                     &row_d_weights[r]};
    gated_gradient_row(HostBlock{}, act, gate, gate + width, weights[r], d_row, to_row, width);
  }
  expect_near(out, doubles_of(row_out));
  expect_near(d_out, doubles_of(row_d_out));
  expect_near(d_gate_up, doubles_of(row_d_gate_up));
  expect_near(d_weights, doubles_of(row_d_weights));
}

TYPED_TEST(CudaKernelsEmulated, GatedRowsStopWhereTheirOffsetsSay) {
  check_gated<TypeParam>(GatedActivation{}, Swiglu{});
  check_gated<TypeParam>(GatedActivation{1.702f, 1.3f, 1.0f}, ClampedGate{1.702f, 1.3f, 1.0f});
}

TYPED_TEST(CudaKernelsEmulated, GatedGradientsThatAreNotWantedAreLeftAlone) {
  const int64_t width = 33, end = 1;
  const auto gate_up = random_row<TypeParam>(2 * width);
  auto d_out = random_row<TypeParam>(width);
  const Doubles before = doubles_of(d_out);
  const float weight = 2;
  float d_weight = 0;
  const GatedGradients<TypeParam> to{.d_weights = &d_weight, .end = &end};
  launch_gated_gradients(GatedActivation{}, gate_up.data(), &weight, d_out.data(), to, 1, width,
                         nullptr);
  EXPECT_EQ(doubles_of(d_out), before);
  EXPECT_NE(d_weight, 0);
}

TYPED_TEST(CudaKernelsEmulated, BiasesAreThoseOfTheRowsGroups) {
  using T = TypeParam;
  const std::vector<int64_t> offsets{0, 0, 20, 21, 21, 30};
  const int64_t groups = 5, trained = 2, cols = 37;
  const int64_t rows = 32;  // two of no group
  const auto first = random_row<T>(trained * cols), last = random_row<T>((groups - trained) * cols);
  const auto x = random_row<T>(rows * cols);
  const auto weights = random_row<float>(rows);
  const Stacks<T> bias{first.data(), last.data(), trained, cols};
  const Groups all{offsets.data(), groups, rows};
  for (const float* weight : {weights.data(), static_cast<const float*>(nullptr)}) {
    std::vector<T> y = x;
    std::vector<float> dots(rows, 1), sums(groups * cols, 2);
    Doubles expected_y = doubles_of(x), expected_dots(rows, 1), expected_sums(groups * cols, 2);
    launch_add_bias(all, bias, weight, y.data(), nullptr);
    launch_add_bias_dots(all, bias, x.data(), dots.data(), nullptr);
    launch_add_group_sums(all, x.data(), weight, cols, sums.data(), nullptr);
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t at = offsets[g] * cols; at < offsets[g + 1] * cols; ++at) {
        const int64_t r = at / cols, c = at % cols;
        const double scale = weight == nullptr ? 1 : weight[r], value = get(bias.of(g)[c]);
        expected_y[at] += scale * value;
        expected_dots[r] += value * get(x[at]);
        expected_sums[g * cols + c] += scale * get(x[at]);
      }
    }
    expect_near(y, expected_y);
    expect_near(dots, expected_dots, 1e-4);
    expect_near(sums, expected_sums, 1e-4);
  }
}

TEST(CudaKernelsEmulatedAlone, CrossEntropyIsThatOfItsRows) {
  for (const int64_t vocab : {33, 3000}) {
    auto logits = random_row<float>(2 * vocab, 4), row_logits = logits;
    const int64_t target[] = {7, vocab - 1};
    std::vector<float> loss(2), row_loss(2);
    uint8_t correct[2], row_correct[2];
    launch_cross_entropy(logits.data(), target, 0.5f, loss.data(), correct, 2, vocab, nullptr);
    for (int r = 0; r < 2; ++r) {
      cross_entropy_row(HostBlock{}, row_logits.data() + r * vocab, target[r], 0.5f, &row_loss[r],
                        &row_correct[r], vocab);
      EXPECT_EQ(correct[r], row_correct[r]);
    }
    expect_near(loss, doubles_of(row_loss));
    expect_near(logits, doubles_of(row_logits));
  }
}

TEST(CudaKernelsEmulatedAlone, SumsAreExactWhateverTheNumberOfParts) {
  for (const int64_t count : {0, 1, 4097, 20000}) {
    const auto x = random_row<float>(count);
    for (const bool squares : {false, true}) {
      std::vector<double> partial(num_partial_sums(count));
      double total = -1, expected = 0;
      launch_sum(x.data(), count, squares, partial.data(), &total, nullptr);
      for (const double value : x) expected += squares ? value * value : value;
      EXPECT_NEAR(total, expected, 1e-12 * (1 + std::abs(expected)));
    }
  }
}

TEST(CudaKernelsEmulatedAlone, AdamWHasTheBitsOfTheCpu) {
  // Columns 7 to 26 of rows of 40 elements: the CPU steps them row by row.
  const int64_t rows = 60, columns = 20, count = rows * columns;
  const ElementIndex index{.row_begin = 4, .col_begin = 7, .columns = 20, .row_elements = 40};
  const AdamWBf16Step step =
      adamw_bf16_at({1e-3, 0.9, 0.95, 1e-8, 0.1}, {7, 3, 0x123456789abc}, true);
  std::vector<Bf16> values[] = {random_row<Bf16>(count), random_row<Bf16>(count, 0.1f),
                                random_row<Bf16>(count, 0.1f)};
  for (Bf16& x : values[2]) x.bits &= 0x7fff;  // not negative
  const auto grad = random_row<float>(count);
  std::vector<BFloat> cpu[3];
  for (int i = 0; i < 3; ++i) {
    for (const Bf16 x : values[i]) cpu[i].push_back({x.bits});
  }
  launch_adamw_bf16(step, index, values[0].data(), values[1].data(), values[2].data(), grad.data(),
                    count, nullptr);
  for (int64_t at = 0; at < count; at += columns) {
    adamw_bf16_step(step, index.of(at), cpu[0].data() + at, cpu[1].data() + at, cpu[2].data() + at,
                    grad.data() + at, columns);
  }
  for (int i = 0; i < 3; ++i) {
    for (int64_t at = 0; at < count; ++at) {
      ASSERT_EQ(values[i][at].bits, cpu[i][at].bits) << "array " << i << " at " << at;
    }
  }
}

TEST(CudaKernelsEmulatedAlone, NothingToDoStartsNothing) {
  launch_rms_norm<float>(nullptr, nullptr, nullptr, nullptr, 0, 8, 1e-6f, false, nullptr);
  launch_rotary<float>({.heads = 1, .head_dim = 2}, nullptr, nullptr, nullptr, nullptr, 0, nullptr);
  launch_sum_rows<float>(nullptr, nullptr, nullptr, 0, 2, 8, nullptr);
  launch_swiglu<float>(nullptr, nullptr, nullptr, 0, nullptr);
  launch_gated<float>({}, nullptr, nullptr, nullptr, 0, 8, nullptr);
  launch_cross_entropy(nullptr, nullptr, 1, nullptr, nullptr, 0, 8, nullptr);
  launch_add_bias<float>({}, {}, nullptr, nullptr, nullptr);
  launch_adamw_bf16({}, {}, nullptr, nullptr, nullptr, nullptr, 0, nullptr);
}

}  // namespace
}  // namespace sutor::ops::cuda
