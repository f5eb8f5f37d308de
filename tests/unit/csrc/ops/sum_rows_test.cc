// The sum of each token's rows beside the sum in float64, and to the bit beside the sum in order.
#include "csrc/ops/sum_rows.h"

#include "tests/support/op_devices.h"

namespace sutor::ops {
namespace {

using namespace testing;  // NOLINT: sutor::testing

struct Case {
  const char* name;
  int64_t tokens, top_k, rows, hidden;
};

const Case kCases[] = {
    {"NoTokens", 0, 2, 0, 5},          {"NoTokensOfManyRows", 0, 2, 7, 5},
    {"OneToken", 1, 3, 3, 5},          {"OneRowEach", 33, 1, 33, 5},
    {"OneRowForAll", 9, 2, 1, 3},      {"SomeOfManyRows", 20, 2, 300, 7},
    {"EightRowsEach", 67, 8, 536, 96},
};

class SumRows : public OperatorTest<at::ScalarType, Case> {};

TEST_P(SumRows, AddsInOrderInFp32AndRoundsOnce) {
  const at::ScalarType dtype = std::get<1>(GetParam());
  const Case& c = std::get<2>(GetParam());
  const at::Tensor rows = random_normal({c.rows, c.hidden}, dtype, 1);
  // Different rows for all choices where there are as many.
  const int64_t choices = c.tokens * c.top_k;
  const at::Tensor position = c.rows < choices
                                  ? at::zeros({choices}, at::kLong)
                                  : random_uniform({c.rows}, 2).argsort().narrow(0, 0, choices);
  const at::Tensor on_rows = moved(rows), on_position = moved(position);
  const at::Tensor ours =
      without_host_reads([&] { return sum_rows(on_rows, on_position, c.tokens); });
  EXPECT_EQ(ours.device(), on_rows.device());

  const at::Tensor chosen = rows.index_select(0, position).view({c.tokens, c.top_k, c.hidden});
  expect_near(ours, as_double(chosen).sum(1), tolerance_of(dtype), "sum");
  at::Tensor in_order = at::zeros({c.tokens, c.hidden}, at::kFloat);
  for (int64_t k = 0; k < c.top_k; ++k) in_order += chosen.select(1, k).to(at::kFloat);
  expect_same_bits(ours, in_order.to(dtype), "sum in order");
}

INSTANTIATE_TEST_SUITE_P(Ops, SumRows, on_all_devices_in_both_dtypes(kCases), NamesOfParams());

}  // namespace
}  // namespace sutor::ops
