// The step of AdamW in bf16 beside a plain one of single elements: the same bits on every device.
#include "csrc/ops/adamw_bf16.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>

#include "tests/support/op_devices.h"
#include "tests/support/plain_adamw_bf16.h"

namespace sutor::ops {
namespace {

using namespace testing;  // NOLINT: sutor::testing

const AdamWConstants kConstants{
    .lr = 3e-4, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};

// A run without its step.
struct Part {
  int64_t offset, count, row_begin, col_begin, columns, row_elements;
};

struct Case {
  const char* name;
  int64_t count;  // elements of the chunk
  std::vector<Part> parts;
};

const Case kCases[] = {
    {"NoRuns", 5, {}},
    {"RunsOfNothing", 5, {{0, 0, 0, 0, 4, 4}, {5, 0, 2, 1, 2, 4}}},
    {"OneElement", 1, {{0, 1, 0, 0, 1, 1}}},
    {"WholeRows", 35, {{0, 35, 3, 0, 7, 7}}},
    {"RowsThatBeginInTheMiddle", 31, {{0, 31, 2, 3, 7, 7}}},
    {"ColumnsOfRows", 40, {{0, 40, 6, 3, 5, 12}}},
    {"ColumnsUntilTheMiddleOfARow", 37, {{0, 37, 0, 8, 5, 13}}},
    {"ColumnsOfOne", 17, {{0, 17, 1, 2, 1, 3}}},
    {"RunsWithGaps", 100, {{3, 20, 0, 0, 5, 5}, {40, 12, 7, 1, 3, 4}, {90, 9, 0, 0, 9, 9}}},
    {"ManyElements", 200003, {{0, 131077, 0, 0, 11, 11}, {131077, 68926, 5, 16, 300, 1000}}},
    {"IndicesBeyond32Bits",
     3000,
     {{0, 1500, (int64_t{1} << 20) - 1, 3700, 4096, 4096},
      {1500, 1500, (int64_t{1} << 20) - 3, 96, 300, 4096}}},
};

struct State {
  at::Tensor weight, exp_avg, exp_avg_sq, grad;
};

State random_state(int64_t count) {
  State state{random_normal({count}, at::kBFloat16, 1),
              (random_normal({count}, at::kFloat, 2) * 1e-3).to(at::kBFloat16),
              (random_normal({count}, at::kFloat, 3).abs() * 1e-5).to(at::kBFloat16),
              random_normal({count}, at::kFloat, 4) * 1e-2};
  state.grad.masked_fill_(at::arange(count).remainder(7) == 0, 0);
  return state;
}

// Each run steps a tensor of its own, every other one without weight decay.
RoundingStream stream_of(size_t run, int64_t step) {
  return {42, step, 0x0123456789abcdef + 77 * run};
}

void plain_steps(const std::vector<Part>& parts, int64_t step, const State& state) {
  for (size_t p = 0; p < parts.size(); ++p) {
    const Part& part = parts[p];
    for (int64_t i = 0; i < part.count; ++i) {
      const int64_t index = (part.row_begin + i / part.columns) * part.row_elements +
                            part.col_begin + i % part.columns;
      const int64_t at = part.offset + i;
      plain_adamw_bf16(
          kConstants, stream_of(p, step), p % 2 == 0, static_cast<uint64_t>(index),
          state.weight.data_ptr<at::BFloat16>()[at].x, state.exp_avg.data_ptr<at::BFloat16>()[at].x,
          state.exp_avg_sq.data_ptr<at::BFloat16>()[at].x, state.grad.data_ptr<float>()[at]);
    }
  }
}

class AdamWBf16 : public OperatorTest<Case> {};

TEST_P(AdamWBf16, EqualsThePlainStepBitForBitAndTouchesNothingBetweenTheRuns) {
  const Case& c = std::get<1>(GetParam());
  const State plain = random_state(c.count), start = random_state(c.count);
  const State ours{moved(start.weight), moved(start.exp_avg), moved(start.exp_avg_sq),
                   moved(start.grad)};
  for (const int64_t step : {1, 2, 1000}) {
    std::vector<AdamWBf16Run> runs;
    for (size_t p = 0; p < c.parts.size(); ++p) {
      const Part& part = c.parts[p];
      runs.push_back({adamw_bf16_at(kConstants, stream_of(p, step), p % 2 == 0), part.offset,
                      part.count, part.row_begin, part.col_begin, part.columns, part.row_elements});
    }
    without_host_reads([&] {
      adamw_bf16_(runs, ours.weight, ours.exp_avg, ours.exp_avg_sq, ours.grad);
      return 0;
    });
    plain_steps(c.parts, step, plain);
    expect_same_bits(ours.weight, plain.weight, "weight");
    expect_same_bits(ours.exp_avg, plain.exp_avg, "exp_avg");
    expect_same_bits(ours.exp_avg_sq, plain.exp_avg_sq, "exp_avg_sq");
    expect_same_bits(ours.grad, plain.grad, "grad");
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, AdamWBf16, on_all_devices(kCases), NamesOfParams());

}  // namespace
}  // namespace sutor::ops
