// The products of the head, and cross entropy with its gradient, beside their formulas in float64.
#include "csrc/ops/cross_entropy.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/autograd.h>

#include "tests/support/op_devices.h"

namespace sutor::ops {
namespace {

using namespace testing;  // NOLINT: sutor::testing

struct HeadCase {
  const char* name;
  int64_t rows, hidden, vocab;
};

const HeadCase kHeads[] = {
    {"NoRows", 0, 5, 1009},          {"OneRow", 1, 5, 1009},    {"OddSizes", 17, 5, 1009},
    {"WideVocabulary", 9, 64, 2500}, {"WideRows", 33, 610, 96}, {"ManyRows", 300, 24, 131},
};

class Head : public OperatorTest<at::ScalarType, HeadCase> {};

TEST_P(Head, ProductsAreThoseInFloat64) {
  const at::ScalarType dtype = std::get<1>(GetParam());
  const HeadCase& c = std::get<2>(GetParam());
  const at::Tensor h = random_normal({c.rows, c.hidden}, dtype, 1);
  const at::Tensor weight = random_normal({c.vocab, c.hidden}, dtype, 2);
  const at::Tensor d_logits = random_normal({c.rows, c.vocab}, dtype, 3);
  const at::Tensor on_h = moved(h), on_weight = moved(weight), on_d_logits = moved(d_logits);

  const at::Tensor logits = without_host_reads([&] { return head_logits(on_h, on_weight); });
  EXPECT_EQ(logits.device(), on_h.device());
  // Never rounded to bf16.
  EXPECT_EQ(logits.scalar_type(), at::kFloat);
  expect_near(logits, at::mm(as_double(h), as_double(weight).t()), tolerance_of(at::kFloat),
              "logits");
  const at::Tensor d_h =
      without_host_reads([&] { return head_input_gradient(on_d_logits, on_weight); });
  EXPECT_EQ(d_h.scalar_type(), dtype);
  expect_near(d_h, at::mm(as_double(d_logits), as_double(weight)), tolerance_of(dtype), "d_h");
}

INSTANTIATE_TEST_SUITE_P(Ops, Head, on_all_devices_in_both_dtypes(kHeads), NamesOfParams());

struct LossCase {
  const char* name;
  int64_t rows, vocab;
  double scale = 1;
};

const LossCase kLosses[] = {
    {"NoRows", 0, 1009},
    {"OneRow", 1, 1009, 0.37},
    {"OddVocabulary", 33, 1009, 1.0 / 33},
    {"TwoWords", 5, 2, -2},
    {"WideVocabulary", 7, 102401, 1e-3},
};

class CrossEntropy : public OperatorTest<LossCase> {
 protected:
  // Runs the operator beside the formula.
  static void check(const at::Tensor& logits, const at::Tensor& target, double scale) {
    const at::Tensor leaf = leaf_of(logits), rows = target.unsqueeze(1);
    const at::Tensor loss = leaf.logsumexp(1) - leaf.gather(1, rows).squeeze(1);
    const at::Tensor d_logits = torch::autograd::grad({loss.sum() * scale}, {leaf})[0];
    const at::Tensor correct = logits.gather(1, rows).squeeze(1) == std::get<0>(logits.max(1));

    const at::Tensor on_logits = moved(logits.clone()), on_target = moved(target);
    const at::Tensor our_loss = moved(at::full({logits.size(0)}, -7.0f));
    const at::Tensor our_correct = moved(at::full({logits.size(0)}, 7, at::kByte));
    without_host_reads([&] {
      cross_entropy_(on_logits, on_target, scale, our_loss, our_correct);
      return 0;
    });
    expect_near(on_logits, d_logits, tolerance_of(at::kFloat), "gradient");
    expect_near(our_loss, loss, tolerance_of(at::kFloat), "loss");
    expect_same_bits(our_correct, correct.to(at::kByte), "correct");
  }
};

TEST_P(CrossEntropy, LossesAndGradientsAreThoseOfTheFormula) {
  const LossCase& c = std::get<1>(GetParam());
  const at::Tensor logits = random_normal({c.rows, c.vocab}, at::kFloat, 1) * 3;
  at::Tensor target = random_below(c.vocab, {c.rows}, 2);
  // Every other target is the largest.
  for (int64_t r = 0; r < c.rows; r += 2) target[r] = logits[r].argmax();
  check(logits, target, c.scale);
}

// Rows: the target far above all, far below all; one other far above, with the target among the
// rest; only two of a size; all alike but two.
TEST_P(CrossEntropy, ExtremeLogitsOverflowNowhere) {
  const LossCase& c = std::get<1>(GetParam());
  at::Tensor logits = random_normal({6, c.vocab}, at::kFloat, 2);
  for (int64_t r = 0; r < 6; ++r) logits[r][0] = logits[r][1] = -80;
  logits[0][1] = 80;
  logits[2][0] = 80;
  logits[3].fill_(-80)[1] = 80;
  logits[4].fill_(80)[0] = 79.5;
  logits[5].fill_(-80)[1] = -79;
  check(logits, longs({1, 1, 1, 1, 0, 1}), c.scale);
}

INSTANTIATE_TEST_SUITE_P(Ops, CrossEntropy, on_all_devices(kLosses), NamesOfParams());

}  // namespace
}  // namespace sutor::ops
