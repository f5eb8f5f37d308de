// Saves beside a training: what is in them, when they are published, and errors on one rank.
#include "launch/save/background_save.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>

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

int64_t open_files() {
  return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
}

int64_t resident_pages() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident;
}

TEST(BackgroundSaveTest, WhatChangesAfterTheCallIsNotSaved) {
  for (const int ranks : {1, 2}) {
    TempDir dir;
    run_ranks(ranks, [&](Comm& world) {
      Training training(world, dir.path());
      training.fill(1);
      training.start_save(10);
      training.fill(2);
      training.checkpointer().finish();
      Training other(world, dir.path());
      ASSERT_TRUE(other.resume());
      EXPECT_EQ(other.wrong(1), 0);
      EXPECT_EQ(other.state.step, 10);
    });
  }
}

TEST(BackgroundSaveTest, StepsPublishItInTheEndAndBestFollows) {
  TempDir dir;
  run_ranks(2, [&](Comm& world) {
    Training training(world, dir.path());
    training.fill(1);
    training.start_save(10);
    training.checkpointer().mark_best(10);
    EXPECT_EQ(pointed_at(dir.path(), kBestPointer), -1);
    world.barrier("looked");
    int64_t published = 0;
    for (int steps = 0; published == 0; ++steps) {
      ASSERT_LT(steps, 100'000);
      training.end_step(world);
      int64_t found[] = {world.rank() == 0 ? pointed_at(dir.path(), kBestPointer) : 0};
      world.all_reduce(std::span<int64_t>(found), ReduceOp::kMax, "found");
      published = found[0] == 10;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    training.checkpointer().finish();
    world.barrier("look");
    EXPECT_EQ(steps_in(dir.path()), (std::vector<int64_t>{10}));
    EXPECT_EQ(pointed_at(dir.path(), kLatestPointer), 10);
  });
}

TEST(BackgroundSaveTest, AnErrorOfOneRankIsThatOfAllAtALaterStep) {
  for (const bool in_steps : {true, false}) {
    TempDir dir;
    run_ranks(2, [&](Comm& world) {
      Training training(world, dir.path());
      training.fill(1);
      training.start_save(10);
      training.checkpointer().finish();
      if (world.rank() == 1) training.spoil();
      training.start_save(20);
      training.fill(2);
      expect_error(ErrorCode::kDiverged, {"not finite"}, [&] {
        for (int steps = 0; in_steps && steps < 100'000; ++steps) training.end_step(world);
        training.checkpointer().finish();
      });
      world.barrier("look");
      EXPECT_EQ(steps_in(dir.path()), (std::vector<int64_t>{10}));
      EXPECT_EQ(testing::count_entries(dir.path()), 2);  // with LATEST
      world.barrier("looked");
      // The next save is not hurt.
      training.start_save(30);
      training.checkpointer().finish();
      world.barrier("look again");
      EXPECT_EQ(steps_in(dir.path()), (std::vector<int64_t>{10, 30}));
    });
  }
}

TEST(BackgroundSaveTest, GivesTheSameBytesAsADirectSave) {
  TempDir one, two;
  run_ranks(2, [&](Comm& world) {
    for (const bool async : {true, false}) {
      Training training(world, (async ? one : two).path());
      training.fill(1);
      training.start_save(10, {.async = async});
      training.checkpointer().finish();
    }
  });
  for (const char* name : {"w0000.h5", "w0000.idx", "w0001.h5", "w0001.idx", "state.h5"}) {
    const fs::path file = fs::path("step-00000010") / name;
    EXPECT_EQ(one.read(file.string()), two.read(file.string())) << name;
  }
}

TEST(BackgroundSaveTest, ADueSaveWaitsForTheFormerAndBothArePublished) {
  TempDir dir;
  run_ranks(2, [&](Comm& world) {
    Training training(world, dir.path());
    for (int64_t step = 10; step <= 30; step += 10) {
      training.fill(static_cast<int>(step));
      training.start_save(step);
    }
    training.checkpointer().finish();
    world.barrier("look");
    EXPECT_EQ(steps_in(dir.path()), (std::vector<int64_t>{10, 20, 30}));
    Training other(world, dir.path());
    ASSERT_TRUE(other.resume());
    EXPECT_EQ(other.wrong(30), 0);
  });
}

TEST(BackgroundSaveTest, AnUnfinishedSaveIsNotPublishedWhenTheTrainingEndsByAnError) {
  TempDir dir;
  run_ranks(1, [&](Comm& world) {
    Training training(world, dir.path());
    training.fill(1);
    training.start_save(10);
  });
  EXPECT_EQ(testing::count_entries(dir.path()), 0);
}

TEST(BackgroundSaveTest, ManySavesLeaveNothingBehind) {
  TempDir dir;
  run_ranks(1, [&](Comm& world) {
    Training training(world, dir.path());
    training.fill(1);
    int64_t files = 0, pages = 0;
    for (int64_t step = 1; step <= 100; ++step) {
      training.start_save(step, {.keep = 2});
      training.checkpointer().finish();
      if (step == 20) files = open_files(), pages = resident_pages();
    }
    EXPECT_EQ(open_files(), files);
    EXPECT_LT(resident_pages() - pages, 2048);         // 8 MiB
    EXPECT_EQ(testing::count_entries(dir.path()), 3);  // two of them and LATEST
  });
}

TEST(BackgroundSaveTest, PinnedOnesAndTheOneResumedFromStay) {
  TempDir dir;
  run_ranks(1, [&](Comm& world) {
    const CheckpointOptions options{.keep = 1, .pin = {2}};
    {
      Training training(world, dir.path());
      training.fill(1);
      for (int64_t step = 1; step <= 4; ++step) training.start_save(step, options);
      training.checkpointer().finish();
      EXPECT_EQ(steps_in(dir.path()), (std::vector<int64_t>{2, 4}));
    }
    Training resumed(world, dir.path());
    ASSERT_TRUE(resumed.resume());
    for (int64_t step = 5; step <= 7; ++step) resumed.start_save(step, options);
    resumed.checkpointer().finish();
    EXPECT_EQ(steps_in(dir.path()), (std::vector<int64_t>{2, 4, 7}));
  });
}

}  // namespace
}  // namespace sutor
