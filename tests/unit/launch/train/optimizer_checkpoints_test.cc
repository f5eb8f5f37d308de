// Checkpoints of optimizers: the format of before they were named still loads, each one's state
// comes back bit by bit and is refused by the other, and whoever wants trained values gets them of
// both.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "checkpoint/compare/tensor_diff.h"
#include "csrc/base/hdf5/h5.h"
#include "launch/model/overlay.h"
#include "launch/model/session.h"
#include "launch/train/checkpointer.h"
#include "layers/esft/trainable_params.h"
#include "tests/support/expect_error.h"
#include "tests/support/flat_buffers.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TempDir;

const fs::path kData = SUTOR_TEST_DATA "/golden";
const fs::path kOldCheckpoint = kData / "checkpoint/step-00000003";

// A training of the golden checkpoint's expert, without data.
class Training {
 public:
  Training(const fs::path& root, const std::string& optimizer, at::ScalarType dtype)
      : plan_(plan_of(source_)),
        session_(source_, plan_.model, plan_.trainable, *world_, {.dtype = dtype}),
        optimizer_(make_optimizer({.name = optimizer, .lr = 1e-2}, /*seed=*/42,
                                  session_.store().buffers())),
        checkpointer_(root, source_.digest(), plan_, session_.store(), *optimizer_, {}) {
    state_ = train_state_from(CheckpointReader(kOldCheckpoint).meta().state, "the golden state");
  }

  void step() {
    ++state_.step;
    for (FlatBuffer* buffer : session_.store().buffers()) {
      testing::set_gradients(*buffer, state_.step);
      optimizer_->step(1e-2, state_.step);
    }
  }
  void save() { checkpointer_.save(state_, {.keep = 9, .async = false}); }
  bool resume() { return checkpointer_.resume(state_, /*strict=*/true); }

  TrainState& state() { return state_; }
  const ModelSource& source() const { return source_; }
  testing::StateValues values() { return testing::state_values(*optimizer_); }
  // The compute copies by name.
  std::map<std::string, at::Tensor> weights() {
    std::map<std::string, at::Tensor> all;
    for (FlatBuffer* buffer : session_.store().buffers()) {
      for (size_t i = 0; i < buffer->size(); ++i) all[buffer->name(i)] = buffer->value(i).clone();
    }
    return all;
  }

 private:
  static TrainPlan plan_of(const ModelSource& source) {
    ExpertConfig config;
    config.experts = {{1, {2}}};
    TrainableSet trainable = trainable_set(source.info, config);
    const CheckpointReader golden(kOldCheckpoint);
    return {source.info, config, std::move(trainable),
            parse_digest(golden.meta().plan_digest, "golden")};
  }

  ModelSource source_{kData / "models/deepseek_v2_grouped"};
  TrainPlan plan_;
  std::unique_ptr<Comm> world_ = make_self_comm();
  Session session_;
  std::unique_ptr<Optimizer> optimizer_;
  Checkpointer checkpointer_;
  TrainState state_;
};

void expect_equal(const testing::StateValues& a, const testing::StateValues& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [key, value] : a) {
    EXPECT_TRUE(at::equal(value, b.at(key))) << key.first << " " << key.second;
  }
}

TEST(OptimizerCheckpoints, TheOldFormatLoads) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    TempDir dir;
    fs::copy(kOldCheckpoint, dir / "step-00000003");
    Training training(dir.path(), "adamw", dtype);
    const auto before = training.weights();
    ASSERT_TRUE(training.resume());
    EXPECT_EQ(training.state().step, 3);
    const h5::File file = h5::File::open(kOldCheckpoint / "w0000.h5");
    const auto values = training.values();
    EXPECT_EQ(values.size(), 9u);
    for (const auto& [key, value] : values) {
      const auto stored = file.read<float>("/" + key.first + "/" + key.second + "/0");
      ASSERT_EQ(stored.size(), static_cast<size_t>(value.numel()));
      EXPECT_EQ(std::memcmp(stored.data(), value.data_ptr(), 4 * stored.size()), 0) << key.second;
    }
    for (const auto& [name, weight] : training.weights()) {
      EXPECT_FALSE(at::equal(weight, before.at(name))) << name;
      EXPECT_TRUE(at::equal(weight.flatten(), values.at({name, "master"}).to(dtype).flatten()))
          << name;
    }
  }
}

TEST(OptimizerCheckpoints, EachOneGoesOnBitForBit) {
  for (const auto& [name, dtype] :
       {std::pair{"adamw", at::kFloat}, {"adamw", at::kBFloat16}, {"adamw_bf16", at::kBFloat16}}) {
    TempDir dir;
    Training through(dir.path(), name, dtype);
    through.step();
    through.save();
    through.step();
    Training resumed(dir.path(), name, dtype);
    ASSERT_TRUE(resumed.resume());
    resumed.step();
    expect_equal(resumed.values(), through.values());
  }
}

TEST(OptimizerCheckpoints, AreRefusedByTheOtherOneByName) {
  TempDir dir;
  fs::copy(kOldCheckpoint, dir / "step-00000003");
  Training bf16(dir.path(), "adamw_bf16", at::kBFloat16);
  const auto before = bf16.values();
  expect_error(ErrorCode::kOtherOptimizer,
               {"optimizer adamw (master F32", "adamw_bf16 (weight BF16", "optim.name: adamw`"},
               [&] { bf16.resume(); });
  expect_equal(bf16.values(), before);

  TempDir other;
  Training writer(other.path(), "adamw_bf16", at::kBFloat16);
  writer.step();
  writer.save();
  Training adamw(other.path(), "adamw", at::kBFloat16);
  expect_error(ErrorCode::kOtherOptimizer, {"optimizer adamw_bf16", "optim.name: adamw_bf16`"},
               [&] { adamw.resume(); });
}

TEST(OptimizerCheckpoints, ValuesInBf16AreReadExactly) {
  TempDir dir;
  Training training(dir.path(), "adamw_bf16", at::kBFloat16);
  training.step();
  training.save();
  const Overlay overlay =
      training.source().checkpoint(dir / "step-00000004", training.source().digest());
  for (const auto& [name, weight] : training.weights()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      at::Tensor read = at::empty_like(weight, weight.options().dtype(dtype));
      ShardedTensor whole{.name = name,
                          .dtype = disk_dtype(dtype),
                          .global_shape = weight.sizes().vec(),
                          .row_count = weight.size(0),
                          .data = static_cast<std::byte*>(read.data_ptr())};
      ASSERT_TRUE(overlay.load(whole));
      EXPECT_TRUE(at::equal(read.to(at::kFloat), weight.to(at::kFloat))) << name;
    }
  }
}

TEST(OptimizerCheckpoints, WeightsInBf16AreComparedWithWhatTheOtherSideRoundsTo) {
  for (const bool trained : {false, true}) {
    TempDir dir;
    Training training(dir.path(), "adamw_bf16", at::kBFloat16);
    if (trained) training.step();
    training.save();
    const TensorMap* tensors = &training.source().info.tensors;
    TensorSet model(kData / "models/deepseek_v2_grouped", ArtifactKind::kModelDirectory, tensors);
    TensorSet checkpoint(dir / (trained ? "step-00000004" : "step-00000003"),
                         ArtifactKind::kCheckpoint, nullptr);
    const SetDiff diff = diff_sets(model, checkpoint, /*distances=*/true, 1);
    for (const auto& [name, weight] : training.weights()) {
      const TensorDiff& found = diff.tensors.at(name);
      EXPECT_EQ(found.change, trained ? TensorChange::kValues : TensorChange::kEqual) << name;
    }
  }
}

// Of a parameter 6 bytes instead of 12 are stored.
TEST(OptimizerCheckpoints, Bf16TakesHalfTheTileBytes) {
  std::map<std::string, int64_t> bytes;
  for (const char* name : {"adamw", "adamw_bf16"}) {
    TempDir dir;
    Training training(dir.path(), name, at::kBFloat16);
    training.step();
    training.save();
    const CheckpointReader reader(dir / "step-00000004");
    reader.verify();
    for (const IndexedTensor& tensor : reader.tensors()) {
      for (const StateKind& kind : reader.optimizer().kinds) {
        bytes[name] += tensor.rows() * tensor.row_bytes(kind.dtype);
      }
    }
    bytes[name] /= reader.manifest().parameters;
  }
  EXPECT_EQ(bytes.at("adamw"), 12);
  EXPECT_EQ(bytes.at("adamw_bf16"), 6);
}

}  // namespace
}  // namespace sutor
