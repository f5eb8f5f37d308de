// The step of AdamW in bf16 beside a plain one of single elements: the same bits on every device.
#include "csrc/ops/adamw_bf16.h"

#include <bit>
#include <cmath>

#include "csrc/base/random.h"
#include "csrc/ops/philox.h"
#include "tests/support/op_devices.h"

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

// The neighbour below x in magnitude, or the one above it when the part between, of 65536, and the
// random number reach over.
at::BFloat16 rounded_by(float x, uint32_t random) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t up = (bits & 0xffff) + random >= 65536 ? 1 : 0;
  return {static_cast<uint16_t>((bits >> 16) + up), at::BFloat16::from_bits()};
}

// One element, as the textbook has it.
void plain_step(const AdamWConstants& c, const RoundingStream& stream, bool decays, uint64_t index,
                at::BFloat16& w, at::BFloat16& m, at::BFloat16& v, float g) {
  const uint64_t key = mix64(mix64(stream.seed) ^ static_cast<uint64_t>(stream.step));
  const PhiloxWords random =
      philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                  static_cast<uint32_t>(stream.tensor), static_cast<uint32_t>(stream.tensor >> 32)},
                 static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
  double power1 = 1, power2 = 1;
  for (int64_t t = 0; t < stream.step; ++t) power1 *= c.beta1, power2 *= c.beta2;
  const float first =
      static_cast<float>(c.beta1) * static_cast<float>(m) + static_cast<float>(1 - c.beta1) * g;
  const float second =
      static_cast<float>(c.beta2) * static_cast<float>(v) + static_cast<float>(1 - c.beta2) * g * g;
  const float divisor =
      static_cast<float>(1 / std::sqrt(1 - power2)) * std::sqrt(second) + static_cast<float>(c.eps);
  const float decay = decays ? static_cast<float>(1 - c.lr * c.weight_decay) : 1;
  const float decayed = decay * static_cast<float>(w);
  w = rounded_by(decayed - static_cast<float>(c.lr / (1 - power1)) * (first / divisor),
                 random.x0 & 0xffff);
  m = rounded_by(first, random.x0 >> 16);
  v = rounded_by(second, random.x1 & 0xffff);
}

void plain_steps(const std::vector<Part>& parts, int64_t step, const State& state) {
  for (size_t p = 0; p < parts.size(); ++p) {
    const Part& part = parts[p];
    for (int64_t i = 0; i < part.count; ++i) {
      const int64_t index = (part.row_begin + i / part.columns) * part.row_elements +
                            part.col_begin + i % part.columns;
      const int64_t at = part.offset + i;
      plain_step(kConstants, stream_of(p, step), p % 2 == 0, static_cast<uint64_t>(index),
                 state.weight.data_ptr<at::BFloat16>()[at],
                 state.exp_avg.data_ptr<at::BFloat16>()[at],
                 state.exp_avg_sq.data_ptr<at::BFloat16>()[at], state.grad.data_ptr<float>()[at]);
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
