// What differs between sets of tensors, and what is read to find it.
#include "checkpoint/compare/tensor_diff.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/base_store_builder.h"
#include "tests/support/expect_error.h"
#include "tests/support/small_model.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::StoredValues;

class TensorDiffs : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = testing::small_model();
    values_ = testing::stored_per_expert(model_, DType::kF32);
    testing::write_single(dir_, "m", values_);
    testing::make_store(dir_ / "m", dir_ / "store");
  }

  TensorSet open(const std::string& name) const {
    return TensorSet(dir_ / name, artifact_kind(dir_ / name), &model_);
  }
  SetDiff diff(const std::string& a, const std::string& b) {
    TensorSet in_a = open(a), in_b = open(b);
    SetDiff found = diff_sets(in_a, in_b, /*distances=*/true, 2);
    read_a_ = in_a.read_bytes();
    read_b_ = in_b.read_bytes();
    return found;
  }
  std::vector<float>& values_of(const std::string& name) {
    for (StoredValues& stored : values_) {
      if (stored.name == name) return stored.values;
    }
    throw std::out_of_range(name);
  }

  testing::TempDir dir_;
  TensorMap model_;
  std::vector<StoredValues> values_;
  int64_t read_a_ = 0, read_b_ = 0;
};

TEST_F(TensorDiffs, RecordedDigestsAreEnough) {
  testing::make_store(dir_ / "m", dir_ / "again");
  EXPECT_TRUE(diff("store", "again").equal());
  EXPECT_EQ(read_a_ + read_b_, 0);
  EXPECT_TRUE(diff("store", "m").equal());
  EXPECT_EQ(read_a_, 0);
  EXPECT_GT(read_b_, 0);
}

TEST_F(TensorDiffs, DistancesAreThoseOfTheDefinition) {
  values_of("model.norm.weight")[1] += 0.5f;
  const std::vector<float> before = testing::values_of(model_, "model.norm.weight");
  double norm = 0;
  for (const float value : before) norm += double{value} * value;
  testing::write_single(dir_, "other", values_);
  for (const char* base : {"m", "store"}) {
    const SetDiff found = diff(base, "other");
    EXPECT_EQ(found.count(TensorChange::kValues), 1);
    const TensorDiff& tensor = found.tensors.at("model.norm.weight");
    ASSERT_TRUE(tensor.distance);
    EXPECT_EQ(tensor.distance->max_abs, 0.5);
    EXPECT_NEAR(tensor.distance->relative, 0.5 / std::sqrt(norm), 1e-12);
  }
}

TEST_F(TensorDiffs, ValuesThatAreNoNumbersShow) {
  values_of("model.norm.weight")[0] = std::numeric_limits<float>::quiet_NaN();
  testing::write_single(dir_, "other", values_);
  const TensorDiff tensor = diff("m", "other").tensors.at("model.norm.weight");
  EXPECT_TRUE(std::isnan(tensor.distance->max_abs));
  // Equal bits are equal, whatever they mean.
  testing::make_store(dir_ / "other", dir_ / "nan-store");
  EXPECT_TRUE(diff("nan-store", "other").equal());
  for (float& value : values_of("model.norm.weight")) value = 0;
  testing::write_single(dir_, "zero", values_);
  EXPECT_EQ(diff("zero", "m").tensors.at("model.norm.weight").distance->relative,
            std::numeric_limits<double>::infinity());
}

TEST_F(TensorDiffs, StackedExpertsAreTakenApartOnlyBesideOthers) {
  testing::write_single(dir_, "fused", testing::stored_fused(model_, DType::kF32));
  EXPECT_TRUE(diff("m", "fused").equal());
  EXPECT_EQ(diff("m", "fused").tensors.size(), model_.size());
  EXPECT_EQ(diff("fused", "fused").tensors.size(), 4u);
  values_of(testing::expert_name(1, "up"))[2] = 9;
  testing::write_single(dir_, "other", values_);
  const SetDiff found = diff("fused", "other");
  EXPECT_EQ(found.count(TensorChange::kValues), 1);
  EXPECT_EQ(found.tensors.at(testing::expert_name(1, "up")).change, TensorChange::kValues);
}

TEST_F(TensorDiffs, OtherFormsAndMissingTensorsAreTold) {
  values_.erase(values_.begin());
  values_[0].shape = {2, 2};
  for (size_t i = 1; i < values_.size(); ++i) values_[i].dtype = DType::kBF16;
  values_.push_back({"extra", {1}, {1.0f}});
  testing::write_single(dir_, "other", values_);
  const SetDiff found = diff("m", "other");
  EXPECT_EQ(found.tensors.at("model.embed_tokens.weight").change, TensorChange::kOnlyA);
  EXPECT_EQ(found.tensors.at("model.norm.weight").change, TensorChange::kShape);
  EXPECT_EQ(found.tensors.at("extra").change, TensorChange::kOnlyB);
  EXPECT_EQ(found.count(TensorChange::kDType), 6);
  EXPECT_FALSE(found.equal());
}

TEST_F(TensorDiffs, OtherFilesCountButNotHowTensorsAreSharded) {
  testing::write_sharded(dir_, "sharded", values_, 3);
  EXPECT_TRUE(diff("store", "sharded").equal());
  dir_.write("sharded/tokenizer.json", "{}");
  dir_.write("sharded/config.json", R"({"model_type": "other"})");
  const SetDiff found = diff("store", "sharded");
  EXPECT_EQ(found.content, (std::map<std::string, std::string>{{"config.json", "differs"},
                                                               {"tokenizer.json", "only in B"}}));
  EXPECT_FALSE(found.equal());
}

TEST_F(TensorDiffs, FoldersWithoutTensorsAreRefused) {
  dir_.write("nothing/readme.txt", "");
  testing::expect_error(ErrorCode::kUnknownArtifact, {"nothing"}, [&] { open("nothing"); });
}

}  // namespace
}  // namespace sutor
