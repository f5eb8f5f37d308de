// Random checkpoints: a function of the seed alone, of the right distribution, readable as any
// other.
#include "checkpoint/huggingface/random_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "checkpoint/huggingface/hf_directory.h"
#include "tests/support/expect_error.h"
#include "tests/support/small_model.h"

namespace sutor {
namespace {
using testing::expect_error;
using testing::TempDir;

TensorEntry matrix(const std::string& name, std::vector<int64_t> shape) {
  TensorEntry entry;
  entry.name = name;
  entry.shape = std::move(shape);
  entry.role = TensorRole::kAttention;
  return entry;
}

std::vector<float> elements(const TensorEntry& tensor, uint64_t seed, int64_t begin,
                            int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  random_elements(tensor, seed, 0.02, begin, count, DType::kF32,
                  reinterpret_cast<std::byte*>(values.data()));
  return values;
}

TEST(RandomModel, AnySliceOfATensorIsThatSliceOfTheWhole) {
  const TensorEntry tensor = matrix("w", {10, 10});
  const std::vector<float> whole = elements(tensor, 5, 0, 100);
  for (int64_t begin = 0; begin < 20; ++begin) {
    for (int64_t count = 0; count < 5; ++count) {
      const std::vector<float> expected(whole.begin() + begin, whole.begin() + begin + count);
      EXPECT_EQ(elements(tensor, 5, begin, count), expected);
    }
  }
}

TEST(RandomModel, SeedAndNameBothMatter) {
  const TensorEntry tensor = matrix("w", {10, 10});
  EXPECT_NE(elements(tensor, 1, 0, 100), elements(tensor, 2, 0, 100));
  EXPECT_NE(elements(tensor, 1, 0, 100), elements(matrix("v", {10, 10}), 1, 0, 100));
}

TEST(RandomModel, MatricesAreNormallyDistributed) {
  constexpr int64_t kCount = 200'000;
  const std::vector<float> values = elements(matrix("w", {kCount, 1}), 0, 0, kCount);
  double sum = 0, squares = 0, fourth = 0, neighbours = 0;
  int64_t within_one = 0;
  for (int64_t i = 0; i < kCount; ++i) {
    const double z = values[i] / 0.02;
    sum += z;
    squares += z * z;
    fourth += z * z * z * z;
    if (i > 0) neighbours += z * values[i - 1] / 0.02;
    within_one += std::abs(z) < 1;
  }
  // Five standard errors each.
  EXPECT_NEAR(sum / kCount, 0, 5 / std::sqrt(kCount));
  EXPECT_NEAR(squares / kCount, 1, 5 * std::sqrt(2.0 / kCount));
  EXPECT_NEAR(fourth / kCount, 3, 5 * std::sqrt(96.0 / kCount));
  EXPECT_NEAR(neighbours / kCount, 0, 5 / std::sqrt(kCount));
  EXPECT_NEAR(static_cast<double>(within_one) / kCount, 0.682689, 5 * std::sqrt(0.2166 / kCount));
}

TEST(RandomModel, NormsAreOneAndBiasesZero) {
  // By name: those inside attention have its role.
  for (const char* name : {"model.norm.weight", "model.layers.0.input_layernorm.weight",
                           "model.layers.0.self_attn.q_norm.weight",
                           "model.layers.0.self_attn.kv_a_layernorm.weight"}) {
    EXPECT_EQ(elements(matrix(name, {4}), 0, 0, 4), std::vector<float>(4, 1.0f)) << name;
  }
  EXPECT_EQ(elements(matrix("q_proj.bias", {4}), 0, 0, 4), std::vector<float>(4, 0.0f));
}

TEST(RandomModel, ShardingDoesNotChangeTheTensors) {
  TempDir dir;
  const TensorMap map = testing::small_model();
  RandomModelOptions options{.seed = 3, .dtype = DType::kBF16, .other_files = {}};
  options.other_files["config.json"] = "{}";
  write_random_model(dir / "one", map, options);
  options.max_shard_bytes = 80;
  write_random_model(dir / "many", map, options);
  const HfDirectory one(dir / "one");
  const HfDirectory many(dir / "many");
  one.check(map);
  many.check(map);
  EXPECT_EQ(one.shards().size(), 1u);
  EXPECT_GT(many.shards().size(), 2u);
  for (const auto& shard : many.shards()) {
    const int64_t data = shard->size() - shard->header().data_begin;
    EXPECT_TRUE(data <= 80 || shard->tensors().size() == 1) << data;
  }
  EXPECT_EQ(one.digest(), many.digest());
  EXPECT_EQ(one.tensors().begin()->second.entry->dtype, DType::kBF16);
}

TEST(RandomModel, AnExistingDirectoryIsNotTouched) {
  TempDir dir;
  dir.write("m/keep", "x");
  RandomModelOptions options;
  expect_error(ErrorCode::kOutputExists, {"m"},
               [&] { write_random_model(dir / "m", testing::small_model(), options); });
  EXPECT_EQ(dir.read("m/keep"), "x");
}

TEST(ShardSizes, UnitsAreReadAndNonsenseIsRefused) {
  EXPECT_EQ(parse_byte_size("5GB", "--shard-size"), 5'000'000'000);
  EXPECT_EQ(parse_byte_size("64MiB", "--shard-size"), 64 << 20);
  EXPECT_EQ(parse_byte_size("1.5KB", "--shard-size"), 1500);
  EXPECT_EQ(parse_byte_size("77", "--shard-size"), 77);
  for (const char* text : {"", "GB", "5XB", "-5GB", "0", "5 GB", "nan", "inf", "1e30"}) {
    expect_error(ErrorCode::kBadArgument, {"--shard-size"},
                 [&] { parse_byte_size(text, "--shard-size"); });
  }
}

}  // namespace
}  // namespace sutor
