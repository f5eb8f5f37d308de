// Rotary positions beside the formulas of RoFormer (arXiv 2104.09864, eq. 15) and YaRN (arXiv
// 2309.00071, section 3; correction range and factor as transformers' modeling_rope_utils.py), in
// double precision.
#include "layers/attention/rope.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <complex>
#include <numbers>

#include "layers/decoder/config_reader.h"
#include "tests/support/expect_error.h"

namespace sutor {
namespace {

using testing::expect_error;

// The rotation a token, 2 pi / wavelength, of pair `i` of `width / 2` before any scaling.
double plain_frequency(double theta, int64_t i, int64_t width) {
  return std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(width));
}

// The index of the pair that turns `turns` times within the original context: solves
// context * theta^(-2 i / width) = 2 pi turns.
double pair_that_turns(double turns, const RopeConfig& rope, int64_t width) {
  const double wavelength = rope.original_max_positions / turns;
  return static_cast<double>(width) / 2 *
         (std::log(wavelength / (2 * std::numbers::pi)) / std::log(rope.theta));
}

// YaRN: pairs that turn often keep their frequency, those that turn seldom have it divided by the
// factor, those between are blended by where they stand.
double yarn_frequency(const RopeConfig& rope, int64_t i, int64_t width) {
  double first = pair_that_turns(rope.beta_fast, rope, width);
  double last = pair_that_turns(rope.beta_slow, rope, width);
  if (rope.truncate) first = std::floor(first), last = std::ceil(last);
  first = std::max(first, 0.0);
  last = std::min(last, static_cast<double>(width - 1));
  if (first == last) last += 0.001;
  const double seldom = std::clamp((static_cast<double>(i) - first) / (last - first), 0.0, 1.0);
  const double plain = plain_frequency(rope.theta, i, width);
  return (1 - seldom) * plain + seldom * plain / rope.factor;
}

double frequency(const RopeConfig& rope, int64_t i, int64_t width) {
  return rope.type == "yarn" ? yarn_frequency(rope, i, width)
                             : plain_frequency(rope.theta, i, width);
}

PackedBatch at_positions(const std::vector<int64_t>& positions) {
  PackedBatch batch;
  batch.positions = at::tensor(positions, at::kLong);
  batch.doc_offsets = {0, static_cast<int64_t>(positions.size())};
  return batch;
}

struct Case {
  const char* name;
  int64_t width;
  RopeConfig rope;
};

RopeConfig yarn(double theta, double factor, double original) {
  RopeConfig rope{.type = "yarn", .theta = theta, .factor = factor};
  rope.original_max_positions = original;
  return rope;
}

std::vector<Case> cases() {
  std::vector<Case> all = {{"Default", 8, {}},
                           {"DefaultWideAndSlow", 128, {.theta = 1e6}},
                           {"Yarn", 64, yarn(10000, 40, 4096)},
                           {"YarnUntruncated", 64, yarn(150000, 32, 4096)},
                           {"YarnEqualTurns", 64, yarn(50000, 32, 4096)},
                           {"YarnContextWithoutATurn", 16, yarn(10000, 4, 6)}};
  all[3].rope.truncate = false;
  all[4].rope.beta_fast = all[4].rope.beta_slow = 1;  // as Kimi-K2
  return all;
}

class RopeTables : public ::testing::TestWithParam<Case> {};

// Angles are products in fp32, as in transformers: far from the origin they are as near to the
// exact angle as fp32 numbers of that size lie to each other.
TEST_P(RopeTables, HoldTheAnglesOfTheFormula) {
  const auto& [name, width, config] = GetParam();
  const std::vector<int64_t> positions = {0, 1, 2, 3, 17, 1000, 4095, 40000, 131071, 1048575};
  const Rope rope(config, width, RopeStyle::kHalf);
  const Rope::Tables tables = rope.tables(at_positions(positions));
  ASSERT_EQ(tables.cos.sizes(),
            (std::vector<int64_t>{static_cast<int64_t>(positions.size()), width / 2}));
  const double factor = config.cos_sin_factor();
  for (size_t t = 0; t < positions.size(); ++t) {
    for (int64_t i = 0; i < width / 2; ++i) {
      const double angle = static_cast<double>(positions[t]) * frequency(config, i, width);
      const double spacing = factor * (1e-6 + angle * 0x1.0p-22);
      const auto row = static_cast<int64_t>(t);
      EXPECT_NEAR(tables.cos[row][i].item<double>(), factor * std::cos(angle), spacing) << t << i;
      EXPECT_NEAR(tables.sin[row][i].item<double>(), factor * std::sin(angle), spacing) << t << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, RopeTables, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

// The frequency of each pair, from the table at position 1 (all angles are below pi there).
std::vector<double> frequencies_of(const RopeConfig& config, int64_t width) {
  const Rope::Tables tables = Rope(config, width, RopeStyle::kHalf).tables(at_positions({1}));
  std::vector<double> result;
  for (int64_t i = 0; i < width / 2; ++i) {
    result.push_back(std::atan2(tables.sin[0][i].item<double>(), tables.cos[0][i].item<double>()));
  }
  return result;
}

TEST(RopeYarn, KeepsWhatTurnsOftenAndDividesWhatTurnsSeldomByTheFactor) {
  const RopeConfig config = yarn(10000, 40, 4096);
  const std::vector<double> found = frequencies_of(config, 64);
  int kept = 0, divided = 0;
  for (int64_t i = 0; i < 32; ++i) {
    const double plain = plain_frequency(config.theta, i, 64);
    const double turns = config.original_max_positions * plain / (2 * std::numbers::pi);
    // One pair of slack on either side: the correction range is rounded to whole pairs.
    const double step = std::pow(config.theta, 2.0 / 64);
    if (turns > config.beta_fast * step) {
      EXPECT_NEAR(found[i] / plain, 1, 1e-5) << i;
      ++kept;
    } else if (turns * step < config.beta_slow) {
      EXPECT_NEAR(found[i] / plain, 1 / config.factor, 1e-5) << i;
      ++divided;
    } else {
      EXPECT_LE(found[i], plain * (1 + 1e-5)) << i;
      EXPECT_GE(found[i], plain / config.factor * (1 - 1e-5)) << i;
    }
  }
  EXPECT_GE(kept, 5);
  EXPECT_GE(divided, 5);
}

TEST(RopeYarn, ScalesCosAndSinAsTheConfigSays) {
  RopeConfig config = yarn(10000, 40, 4096);
  EXPECT_DOUBLE_EQ(config.cos_sin_factor(), 0.1 * std::log(40.0) + 1);  // the paper's eq. 22
  config.mscale = 1;
  config.mscale_all_dim = 0.5;
  EXPECT_DOUBLE_EQ(config.cos_sin_factor(),
                   (0.1 * std::log(40.0) + 1) / (0.05 * std::log(40.0) + 1));
  config.mscale = 0.5;
  EXPECT_DOUBLE_EQ(config.cos_sin_factor(), 1);
  config.mscale_all_dim = 0;  // only both together count
  EXPECT_DOUBLE_EQ(config.cos_sin_factor(), 0.1 * std::log(40.0) + 1);
  config.attention_factor = 1.25;
  EXPECT_DOUBLE_EQ(config.cos_sin_factor(), 1.25);
  config.factor = 0.5;
  config.attention_factor.reset();
  EXPECT_DOUBLE_EQ(config.cos_sin_factor(), 1);  // a shorter context needs no scale
  config.type = "default";
  config.factor = 40;
  EXPECT_DOUBLE_EQ(config.cos_sin_factor(), 1);
}

// The rotation of each pair as a product of complex numbers.
at::Tensor rotated(const at::Tensor& x, const std::vector<int64_t>& positions,
                   const RopeConfig& config, int64_t width, int64_t offset, RopeStyle style) {
  at::Tensor y = x.to(at::kDouble).clone();
  for (int64_t t = 0; t < x.size(0); ++t) {
    for (int64_t h = 0; h < x.size(1); ++h) {
      for (int64_t i = 0; i < width / 2; ++i) {
        const bool half = style == RopeStyle::kHalf;
        const int64_t a = offset + (half ? i : 2 * i), b = a + (half ? width / 2 : 1);
        const std::complex<double> pair(x[t][h][a].item<double>(), x[t][h][b].item<double>());
        const double angle = static_cast<double>(positions[t]) * frequency(config, i, width);
        const std::complex<double> turned = pair * std::polar(config.cos_sin_factor(), angle);
        y[t][h][a] = turned.real();
        y[t][h][b] = turned.imag();
      }
    }
  }
  return y;
}

double furthest(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

class RopeRotation : public ::testing::TestWithParam<RopeStyle> {};

TEST_P(RopeRotation, TurnsThePairsOfItsDimensionsAndCopiesTheOthers) {
  at::manual_seed(1);
  const std::vector<int64_t> positions = {0, 5, 1, 700, 3};
  for (const auto& [width, offset] : {std::pair{12, 0}, {8, 0}, {8, 4}, {2, 7}}) {
    for (const RopeConfig& config : {RopeConfig{}, yarn(10000, 8, 64)}) {
      const Rope rope(config, width, GetParam());
      const at::Tensor x = at::randn({5, 3, 12});
      const at::Tensor y = rope.apply(x, rope.tables(at_positions(positions)), offset);
      const at::Tensor wanted = rotated(x, positions, config, width, offset, GetParam());
      EXPECT_LT(furthest(y, wanted), 5e-4) << width << " from " << offset;
      EXPECT_TRUE(at::equal(y.narrow(2, 0, offset), x.narrow(2, 0, offset)));
      const int64_t end = offset + width;
      EXPECT_TRUE(at::equal(y.narrow(2, end, 12 - end), x.narrow(2, end, 12 - end)));
    }
  }
}

TEST_P(RopeRotation, RoundsToTheModelsDtypeOnlyAtTheEnd) {
  at::manual_seed(2);
  const std::vector<int64_t> positions = {0, 3, 9};
  const Rope rope({}, 8, GetParam());
  const at::Tensor x = at::randn({3, 2, 8}).to(at::kBFloat16);
  const at::Tensor y = rope.apply(x, rope.tables(at_positions(positions)), 0);
  ASSERT_EQ(y.scalar_type(), at::kBFloat16);
  const at::Tensor wanted = rotated(x.to(at::kFloat), positions, {}, 8, 0, GetParam());
  const at::Tensor off = (y.to(at::kDouble) - wanted).abs();
  EXPECT_TRUE((off <= wanted.abs() * 0x1.0p-8 + 1e-6).all().item<bool>()) << off;
}

TEST_P(RopeRotation, ScoresDependOnDistanceAlone) {
  at::manual_seed(3);
  const Rope rope({}, 16, GetParam());
  const at::Tensor q = at::randn({1, 1, 16}), k = at::randn({1, 1, 16});
  const auto score = [&](int64_t query, int64_t key) {
    return (rope.apply(q, rope.tables(at_positions({query})), 0) *
            rope.apply(k, rope.tables(at_positions({key})), 0))
        .sum()
        .item<double>();
  };
  EXPECT_NEAR(score(7, 3), score(1007, 1003), 1e-3);
  EXPECT_NEAR(score(4, 4), (q * k).sum().item<double>(), 1e-5);
  EXPECT_GT(std::abs(score(7, 3) - score(7, 4)), 1e-2);
}

TEST_P(RopeRotation, ItsGradientTurnsBack) {
  at::manual_seed(4);
  const std::vector<int64_t> positions = {0, 5, 11};
  const RopeConfig config = yarn(10000, 8, 64);  // a factor that is not 1
  const Rope rope(config, 8, GetParam());
  const at::Tensor x = at::randn({3, 2, 12}).set_requires_grad(true);
  const at::Tensor y = rope.apply(x, rope.tables(at_positions(positions)), 4);
  const at::Tensor g = at::randn_like(y);
  const at::Tensor dx = torch::autograd::grad({(y * g).sum()}, {x})[0];
  // The rotation is linear, y = R x, so that dx = R^T g: column by column from the plain form.
  at::Tensor wanted = at::zeros({3, 2, 12}, at::kDouble);
  for (int64_t d = 0; d < 12; ++d) {
    at::Tensor unit = at::zeros({3, 2, 12});
    unit.select(2, d).fill_(1);
    wanted.select(2, d).copy_(
        (rotated(unit, positions, config, 8, 4, GetParam()) * g.detach().to(at::kDouble)).sum(-1));
  }
  EXPECT_LT(furthest(dx, wanted), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Styles, RopeRotation,
                         ::testing::Values(RopeStyle::kHalf, RopeStyle::kInterleaved),
                         [](const auto& info) {
                           return info.param == RopeStyle::kHalf ? "Half" : "Interleaved";
                         });

RopeConfig read(const nlohmann::json& json, std::optional<double> partial = {}) {
  return ConfigReader(json).rope(10000, partial);
}

TEST(RopeConfigTest, IsReadAlikeFromBothFormsOfConfigJson) {
  const nlohmann::json scaling = {{"factor", 4.0}, {"original_max_position_embeddings", 1024}};
  nlohmann::json old_form = {{"rope_theta", 5e5}, {"rope_scaling", scaling}};
  old_form["rope_scaling"]["type"] = "yarn";
  nlohmann::json new_form = {{"rope_parameters", scaling}};
  new_form["rope_parameters"]["rope_type"] = "yarn";
  new_form["rope_parameters"]["rope_theta"] = 5e5;
  for (const nlohmann::json& json : {old_form, new_form}) {
    const RopeConfig rope = read(json);
    EXPECT_EQ(rope.type, "yarn");
    EXPECT_EQ(rope.theta, 5e5);
    EXPECT_EQ(rope.factor, 4);
    EXPECT_EQ(rope.original_max_positions, 1024);
    EXPECT_EQ(rope.beta_fast, 32);
    EXPECT_EQ(rope.beta_slow, 1);
    EXPECT_TRUE(rope.truncate);
  }
}

TEST(RopeConfigTest, WithoutASectionItIsTheDefault) {
  const RopeConfig rope = read({{"rope_scaling", nullptr}});
  EXPECT_EQ(rope.type, "default");
  EXPECT_EQ(rope.theta, 10000);
  EXPECT_EQ(rope.partial, 1);
  EXPECT_EQ(read({{"partial_rotary_factor", 0.25}}, 0.5).partial, 0.25);
  EXPECT_EQ(read({{"model_type", "x"}}, 0.5).partial, 0.5);
}

TEST(RopeConfigTest, YarnsFactorFollowsFromTheContextsWhenItIsNull) {
  nlohmann::json json = {
      {"max_position_embeddings", 8192},
      {"rope_scaling",
       {{"type", "yarn"}, {"factor", nullptr}, {"original_max_position_embeddings", 2048}}}};
  EXPECT_EQ(read(json).factor, 4);
  json["rope_scaling"].erase("factor");
  expect_error(ErrorCode::kBadModelConfig, {"rope_scaling", "needs a factor"}, [&] { read(json); });
}

TEST(RopeConfigTest, TypesThatAreNotBuiltAreRefused) {
  for (const char* type : {"linear", "dynamic", "llama3", "longrope"}) {
    expect_error(ErrorCode::kUnsupportedModel, {"rope_scaling", type, "default and yarn"}, [&] {
      read({{"rope_scaling", {{"type", type}, {"factor", 2.0}}}});
    });
  }
  expect_error(ErrorCode::kBadModelConfig, {"rope_parameters", "yarn needs"}, [] {
    read({{"rope_parameters", {{"rope_type", "yarn"}, {"factor", 2.0}}}});
  });
  expect_error(ErrorCode::kUnsupportedModel, {"partial_rotary_factor", "whole heads"}, [] {
    read({{"partial_rotary_factor", 0.5}});
  });
  expect_error(ErrorCode::kBadModelConfig, {"partial_rotary_factor", "above 0"}, [] {
    read({{"partial_rotary_factor", 1.5}}, 0.5);
  });
}

}  // namespace
}  // namespace sutor
