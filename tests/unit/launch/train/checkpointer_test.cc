// Saving and resuming a training on one rank and on several (threads): what comes back, what is
// refused, and where LATEST and BEST point.
#include "launch/train/checkpointer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "tests/support/expect_error.h"
#include "tests/support/idle_training.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::kBase;
using testing::plan_of;
using testing::pointed_at;
using testing::run_ranks;
using testing::steps_in;
using testing::TempDir;
using testing::Training;

TEST(TrainStateTest, ReadsBackAsItWasWritten) {
  TrainState state;
  state.step = 120;
  state.cursor = {2, 640};
  state.seed = std::numeric_limits<uint64_t>::max();
  state.schedule = "optim.lr: 1e-05\nschedule.name: \"x\"\n";
  state.data_digest = "xxh3:12";
  state.lora = {{"rank", 8}, {"alpha", 16.5}};
  state.best_metric = "v1.2.loss";
  state.best_value = 0.1;
  state.best_step = 100;
  const TrainState read =
      train_state_from(nlohmann::json::parse(to_json(state).dump()), "step-00000120");
  EXPECT_EQ(read.step, state.step);
  EXPECT_EQ(read.cursor, state.cursor);
  EXPECT_EQ(read.seed, state.seed);
  EXPECT_EQ(read.schedule, state.schedule);
  EXPECT_EQ(read.data_digest, state.data_digest);
  EXPECT_EQ(read.lora, state.lora);
  EXPECT_EQ(read.best_metric, state.best_metric);
  EXPECT_EQ(read.best_value, state.best_value);
  EXPECT_EQ(read.best_step, state.best_step);
}

TEST(TrainStateTest, WithoutAPartOfItIsRefused) {
  const nlohmann::json whole = to_json(TrainState{});
  for (const char* key : {"step", "cursor", "seed", "schedule", "data_digest", "best"}) {
    nlohmann::json json = whole;
    json.erase(key);
    expect_error(ErrorCode::kBadManifest, {"step-00000010", key},
                 [&] { train_state_from(json, "step-00000010"); });
  }
  nlohmann::json older = whole;  // before low-rank pairs
  older.erase("lora");
  EXPECT_TRUE(train_state_from(older, "x").lora.is_null());
}

TEST(CheckpointerTest, WhatWasSavedComesBackOnAnyNumberOfRanks) {
  for (const auto& [before, after] : {std::pair{1, 1}, {1, 3}, {2, 1}, {3, 2}}) {
    TempDir dir;
    run_ranks(before, [&](Comm& world) {
      Training training(world, dir.path());
      training.fill(1);
      training.state.cursor = {1, 96};
      training.state.seed = 5;
      training.save(40);
    });
    run_ranks(after, [&](Comm& world) {
      Training training(world, dir.path());
      training.fill(2);
      ASSERT_TRUE(training.resume());
      EXPECT_EQ(training.wrong(1), 0) << before << " -> " << after;
      EXPECT_GT(training.wrong(2), 0);
      EXPECT_EQ(training.state.step, 40);
      EXPECT_EQ(training.state.cursor, (Cursor{1, 96}));
      EXPECT_EQ(training.state.seed, 5u);
      // The weights that compute are the masters, also those that another rank steps.
      const at::Tensor norm = training.value("model.norm.weight");
      for (int64_t i = 0; i < norm.numel(); ++i) {
        const double wanted = std::sin(1 + 0.1 * static_cast<double>(i) + 17);
        ASSERT_FLOAT_EQ(norm[i].item<float>(), static_cast<float>(wanted)) << i;
      }
    });
  }
}

TEST(CheckpointerTest, TheRecipeAtHandStaysWhereItMayDiffer) {
  TempDir dir;
  run_ranks(1, [&](Comm& world) {
    Training training(world, dir.path());
    training.state.schedule = "optim.lr: 0.1\nschedule.steps: 10\n";
    training.save(10);
    Training longer(world, dir.path());
    longer.state.schedule = "optim.lr: 0.1\nschedule.steps: 20\n";
    ASSERT_TRUE(longer.resume());
    EXPECT_EQ(longer.state.schedule, "optim.lr: 0.1\nschedule.steps: 20\n");
    EXPECT_EQ(longer.state.step, 10);
  });
}

TEST(CheckpointerTest, AnEmptyFolderHasNothingToResume) {
  TempDir dir;
  run_ranks(2, [&](Comm& world) {
    Training training(world, dir / "checkpoints");
    EXPECT_FALSE(training.resume());
    EXPECT_EQ(training.state.step, 0);
  });
}

// Only the rank that reads the tile finds the damage.
TEST(CheckpointerTest, DamagedDataArePassedOverByAllRanksAlike) {
  TempDir dir;
  run_ranks(2, [&](Comm& world) {
    Training training(world, dir.path());
    for (const int step : {10, 20}) {
      training.fill(step);
      training.save(step);
    }
    if (world.rank() == 0) {
      const fs::path file = dir / "step-00000020/w0001.h5";
      std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
      bytes.seekg(static_cast<std::streamoff>(fs::file_size(file) - 1));
      const auto last = static_cast<char>(bytes.get() ^ 1);
      bytes.seekp(static_cast<std::streamoff>(fs::file_size(file) - 1));
      bytes.put(last);
    }
    world.barrier("damage");
    Training strict(world, dir.path());
    expect_error(ErrorCode::kCorrupted, {"step-00000020/w0001.h5"}, [&] { strict.resume(true); });
    Training again(world, dir.path());
    ASSERT_TRUE(again.resume());
    EXPECT_EQ(again.state.step, 10);
    EXPECT_EQ(again.wrong(10), 0);
    world.barrier("resumed");
    if (world.rank() == 0) {
      EXPECT_EQ(pointed_at(dir.path(), kLatestPointer), 10);
    }
    again.fill(20);
    again.save(20);  // its step can be saved again
    Training last(world, dir.path());
    ASSERT_TRUE(last.resume());
    EXPECT_EQ(last.state.step, 20);
  });
}

TEST(CheckpointerTest, FilesOfAnotherProgramAreNoCheckpointAndNoEmptyFolder) {
  TempDir dir;
  dir.write("checkpoints/epoch1.pt", "precious");
  run_ranks(2, [&](Comm& world) {
    Training training(world, dir / "checkpoints");
    expect_error(ErrorCode::kOutputExists, {"epoch1.pt"}, [&] { training.resume(); });
  });
}

TEST(CheckpointerTest, AnotherBaseIsRefusedOnAllRanks) {
  TempDir dir;
  run_ranks(2, [&](Comm& world) {
    Training(world, dir.path()).save(10);
    Training other(world, dir.path(), plan_of(), xxh3("another base model"));
    expect_error(ErrorCode::kOtherBase,
                 {"step-00000010", kBase.text(), xxh3("another base model").text()},
                 [&] { other.resume(); });
  });
}

TEST(CheckpointerTest, AnotherPlanIsRefusedOnAllRanks) {
  TempDir dir;
  run_ranks(2, [&](Comm& world) {
    Training(world, dir.path()).save(10);
    Training other(world, dir.path(), plan_of({1, 6}));
    expect_error(ErrorCode::kOtherTrainable,
                 {"step-00000010", plan_of().digest.text(), plan_of({1, 6}).digest.text()},
                 [&] { other.resume(); });
  });
}

TEST(CheckpointerTest, OtherKeysOrDataAreRefusedOnAllRanksAndChangeNothing) {
  TempDir dir;
  run_ranks(2, [&](Comm& world) {
    {
      Training training(world, dir.path());
      training.fill(1);
      training.save(10);
    }
    Training other(world, dir.path());
    other.fill(2);
    other.state.schedule = "optim.lr: 0.2\n";
    expect_error(ErrorCode::kOtherRecipe,
                 {"step-00000010", "then optim.lr: 0.1", "now  optim.lr: 0.2"},
                 [&] { other.resume(); });
    other.state.schedule = "optim.lr: 0.1\n";
    other.state.data_digest = "xxh3:8";
    expect_error(ErrorCode::kOtherRecipe, {"step-00000010", "the training data"},
                 [&] { other.resume(); });
    EXPECT_EQ(other.wrong(2), 0);
    EXPECT_EQ(other.state.step, 0);
  });
}

TEST(CheckpointerTest, ABrokenNewestIsPassedOverUnlessStrict) {
  TempDir dir;
  run_ranks(1, [&](Comm& world) {
    Training training(world, dir.path());
    training.fill(1);
    training.save(10);
    training.fill(2);
    training.save(20);
    fs::resize_file(dir / "step-00000020/w0000.h5", 100);
    Training other(world, dir.path());
    expect_error(ErrorCode::kWrongFileSize, {"step-00000020"},
                 [&] { other.resume(/*strict=*/true); });
    ASSERT_TRUE(other.resume());
    EXPECT_EQ(other.state.step, 10);
    EXPECT_EQ(other.wrong(1), 0);
  });
}

TEST(CheckpointerTest, LatestIsTheNewestAndOldOnesGo) {
  TempDir dir;
  run_ranks(2, [&](Comm& world) {
    Training training(world, dir.path());
    for (int64_t step = 10; step <= 50; step += 10) {
      training.save(step, /*keep=*/2);
      world.barrier("look");
      EXPECT_EQ(pointed_at(dir.path(), kLatestPointer), step);
      world.barrier("looked");
    }
    EXPECT_EQ(steps_in(dir.path()), (std::vector<int64_t>{40, 50}));
    EXPECT_EQ(pointed_at(dir.path(), kBestPointer), -1);
  });
}

TEST(CheckpointerTest, RetentionNeverDeletesTheBest) {
  TempDir dir;
  run_ranks(1, [&](Comm& world) {
    Training training(world, dir.path());
    training.save_best(10, 3.0, 1);
    training.save_best(20, 2.0, 1);
    EXPECT_EQ(steps_in(dir.path()), (std::vector<int64_t>{10, 20}));  // 10 was best until now
    for (int64_t step = 30; step <= 60; step += 10) training.save(step, 1);
    EXPECT_EQ(steps_in(dir.path()), (std::vector<int64_t>{20, 60}));
    EXPECT_EQ(pointed_at(dir.path(), kBestPointer), 20);
    EXPECT_EQ(pointed_at(dir.path(), kLatestPointer), 60);
    // A new best takes its place; the old one goes with the next save.
    training.save_best(70, 1.0, 1);
    training.save(80, 1);
    EXPECT_EQ(steps_in(dir.path()), (std::vector<int64_t>{70, 80}));
    EXPECT_EQ(pointed_at(dir.path(), kBestPointer), 70);
  });
}

TEST(CheckpointerTest, AResumedTrainingKnowsItsBest) {
  TempDir dir;
  run_ranks(1, [&](Comm& world) {
    Training training(world, dir.path());
    training.save_best(10, 3.25);
    training.save(20);
    Training resumed(world, dir.path());
    ASSERT_TRUE(resumed.resume());
    EXPECT_EQ(resumed.state.best_metric, "task.loss");
    EXPECT_EQ(resumed.state.best_value, 3.25);
    EXPECT_EQ(resumed.state.best_step, 10);
    EXPECT_EQ(pointed_at(dir.path(), kBestPointer), 10);
  });
}

TEST(CheckpointerTest, AfterACrashBetweenSavingAndMarkingBestIsMarked) {
  TempDir dir;
  run_ranks(2, [&](Comm& world) {
    {
      Training training(world, dir.path());
      training.save_best(10, 3.0);
      training.state.best_value = 2.0;
      training.state.best_step = 20;
      training.save(20);  // and here it ends, before mark_best()
    }
    Training resumed(world, dir.path());
    ASSERT_TRUE(resumed.resume());
    resumed.point_at_best();
    EXPECT_EQ(pointed_at(dir.path(), kBestPointer), 20);
  });
}

TEST(CheckpointerTest, ABestThatWasPassedOverIsBestNoMore) {
  TempDir dir;
  run_ranks(1, [&](Comm& world) {
    Training training(world, dir.path());
    training.save_best(10, 3.0);
    training.save_best(20, 2.0);
    fs::remove(dir / "step-00000020/state.h5");
    Training resumed(world, dir.path());
    ASSERT_TRUE(resumed.resume());
    EXPECT_EQ(resumed.state.best_step, 10);
    resumed.point_at_best();
    EXPECT_EQ(pointed_at(dir.path(), kBestPointer), 10);
  });
}

TEST(CheckpointerTest, UnderAnotherMetricTheOldBestDoesNotCount) {
  TempDir dir;
  run_ranks(1, [&](Comm& world) {
    Training training(world, dir.path());
    training.save_best(10, 0.5);
    Training resumed(world, dir.path());
    resumed.state.best_metric = "general.loss";
    ASSERT_TRUE(resumed.resume());
    EXPECT_EQ(resumed.state.best_metric, "general.loss");
    EXPECT_EQ(resumed.state.best_step, -1);
    resumed.point_at_best();
    EXPECT_EQ(pointed_at(dir.path(), kBestPointer), -1);
  });
}

}  // namespace
}  // namespace sutor
