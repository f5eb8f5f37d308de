// Which checkpoints count, which one a run resumes from, and what is deleted.
#include "checkpoint/partial/checkpoint_list.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/partial/checkpoint_check.h"
#include "csrc/base/error.h"
#include "csrc/base/hdf5/h5.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;
using testing::content_of;
using testing::expect_error;
using testing::SampleValues;
using testing::save_sample;
using testing::TempDir;

std::vector<int64_t> steps_of(const fs::path& root) {
  std::vector<int64_t> steps;
  for (const CheckpointEntry& entry : list_checkpoints(root)) steps.push_back(entry.step);
  return steps;
}

void save_steps(const fs::path& root, const std::vector<int64_t>& steps) {
  SampleValues values({{"w", {2, 4}}});
  for (const int64_t step : steps) save_sample(root, step, values, 1);
}

TEST(CheckpointPathsTest, OnlyNamesOfItsOwnMakingAreSteps) {
  EXPECT_EQ(step_directory(100), "step-00000100");
  EXPECT_EQ(parse_step_directory("step-00000100"), 100);
  EXPECT_EQ(parse_step_directory(step_directory(123456789012)), 123456789012);
  for (const char* name : {"step-100", "step-1e3", "step--5", "step-", "step-0000010x",
                           "step-000000100", "step-99999999999999999999", "Step-00000100", ""}) {
    EXPECT_FALSE(parse_step_directory(name)) << name;
  }
}

TEST(CheckpointListTest, OnlyCompleteStepDirectoriesAreListed) {
  TempDir dir;
  EXPECT_TRUE(list_checkpoints(dir / "absent").empty());
  save_steps(dir.path(), {20, 10, 30, 40});
  fs::remove(dir / "step-00000030/MANIFEST.json");
  fs::resize_file(dir / "step-00000040/w0000.h5", 100);
  fs::create_directory(dir / ".staging-00000050.x");
  fs::create_directory_symlink(dir / "step-00000010", dir / "step-00000060");
  fs::copy(dir / "step-00000010", dir / "step-00000070");  // of another step than its name says
  dir.write("step-00000080", "a file");
  EXPECT_EQ(steps_of(dir.path()), (std::vector<int64_t>{10, 20}));
}

TEST(CheckpointListTest, TheNewestGoodOneIsFoundAndTheBadOnesAreNamed) {
  TempDir dir;
  EXPECT_FALSE(newest_valid_checkpoint(dir.path()).entry);
  save_steps(dir.path(), {10, 20, 30});
  dir.write("LATEST", "garbage");
  EXPECT_EQ(newest_valid_checkpoint(dir.path()).entry->step, 30);
  std::ofstream(dir / "step-00000030/w0000.idx", std::ios::in | std::ios::binary) << "X";
  fs::remove(dir / "step-00000020/state.h5");
  const NewestCheckpoint newest = newest_valid_checkpoint(dir.path());
  EXPECT_EQ(newest.entry->step, 10);
  ASSERT_EQ(newest.passed_over.size(), 2u);
  EXPECT_NE(newest.passed_over[0].find("step-00000030/w0000.idx"), std::string::npos);
  EXPECT_NE(newest.passed_over[1].find("step-00000020/state.h5"), std::string::npos);
  expect_error(ErrorCode::kBadTileIndex, [&] { newest_valid_checkpoint(dir.path(), true); });
  fs::remove_all(dir / "step-00000010");
  expect_error(ErrorCode::kNoCheckpoint, [&] { newest_valid_checkpoint(dir.path()); });
}

// Its digest is right, so that it is no damage: a newer program can read it.
TEST(CheckpointListTest, ANewerFormatIsNotPassedOver) {
  TempDir dir;
  save_steps(dir.path(), {10, 20});
  const fs::path manifest = dir / "step-00000020/MANIFEST.json";
  std::string text = content_of(manifest);
  std::string rest = text.substr(text.find('\n') + 1);
  const std::string version = "\"format_version\": 1";
  rest.replace(rest.find(version), version.size(), "\"format_version\": 9");
  std::ofstream(manifest) << "{\"digest\": \"" + xxh3(rest).text() + "\",\n" + rest;
  expect_error(ErrorCode::kUnknownVersion, {"step-00000020", "not passed over"},
               [&] { newest_valid_checkpoint(dir.path()); });
}

TEST(CheckpointListTest, WhatWasFoundDamagedWhileItWasReadIsPassedOver) {
  TempDir dir;
  save_steps(dir.path(), {10, 20});
  const NewestCheckpoint newest = newest_valid_checkpoint(dir.path(), false, {{20, "bad tile"}});
  EXPECT_EQ(newest.entry->step, 10);
  EXPECT_EQ(newest.state.at("step"), 10);
  EXPECT_EQ(newest.passed_over, std::vector<std::string>{"bad tile"});
  expect_error(ErrorCode::kNoCheckpoint, {"sutor verify", "--overwrite", "another output"}, [&] {
    newest_valid_checkpoint(dir.path(), false, {{20, "bad tile"}, {10, "too"}});
  });
}

TEST(CheckpointListTest, FilesOfAnotherProgramAreRefusedAndHiddenOnesAreNot) {
  TempDir dir;
  refuse_foreign_files(dir / "absent");
  save_steps(dir.path(), {10});
  dir.write(".lock", "");
  refuse_foreign_files(dir.path());
  dir.write("epoch1.pt", "");
  expect_error(ErrorCode::kOutputExists, {"epoch1.pt"}, [&] { refuse_foreign_files(dir.path()); });
}

TEST(CheckpointListTest, RetentionKeepsNewestBestLatestAndProtected) {
  TempDir dir;
  save_steps(dir.path(), {10, 20, 30, 40, 50, 60});
  write_pointer(dir.path(), kBestPointer, 20);
  EXPECT_EQ(apply_retention(dir.path(), 2, {30}), (std::vector<int64_t>{10, 40}));
  EXPECT_EQ(steps_of(dir.path()), (std::vector<int64_t>{20, 30, 50, 60}));
  EXPECT_TRUE(apply_retention(dir.path(), 9).empty());
}

TEST(CheckpointListTest, BrokenCheckpointsDoNotCountForRetention) {
  TempDir dir;
  save_steps(dir.path(), {10, 20, 30});
  fs::remove(dir / "step-00000030/MANIFEST.json");
  EXPECT_TRUE(apply_retention(dir.path(), 2).empty());
  EXPECT_EQ(steps_of(dir.path()), (std::vector<int64_t>{10, 20}));
  EXPECT_TRUE(fs::exists(dir / "step-00000030"));
}

// Turns one bit of a checkpoint's data over, behind the back of all digests.
void damage_data(const fs::path& step) {
  const int64_t offset = h5::File::open(step / "w0000.h5").dataset("/w/exp_avg/0").offset;
  std::fstream file(step / "w0000.h5", std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(offset);
  const auto byte = static_cast<char>(file.get() ^ 1);
  file.seekp(offset);
  file.put(byte);
}

TEST(CheckpointListTest, DamagedDataDoNotCountForRetention) {
  TempDir dir;
  save_steps(dir.path(), {10, 20, 30, 40});
  damage_data(dir / "step-00000030");
  EXPECT_EQ(apply_retention(dir.path(), 2), (std::vector<int64_t>{10}));
  EXPECT_EQ(steps_of(dir.path()), (std::vector<int64_t>{20, 30, 40}));
  EXPECT_TRUE(is_valid_checkpoint(dir / "step-00000020"));
  EXPECT_FALSE(is_valid_checkpoint(dir / "step-00000030"));
}

TEST(CheckpointListTest, DamagedDataArePassedOver) {
  TempDir dir;
  save_steps(dir.path(), {10, 20});
  damage_data(dir / "step-00000020");
  check_checkpoint(dir / "step-00000020", CheckDepth::kStructure);
  expect_error(ErrorCode::kCorrupted, {"step-00000020/w0000.h5", "/w/exp_avg/0"},
               [&] { check_checkpoint(dir / "step-00000020", CheckDepth::kData); });
  EXPECT_EQ(newest_valid_checkpoint(dir.path()).entry->step, 10);
  expect_error(ErrorCode::kCorrupted, [&] { newest_valid_checkpoint(dir.path(), true); });
}

TEST(CheckpointListTest, ADamagedCheckpointIsWrittenAgainAtItsStep) {
  for (const char* file : {"w0000.h5", "w0000.idx", "state.h5", "MANIFEST.json"}) {
    TempDir dir;
    save_steps(dir.path(), {10, 20});
    const fs::path step = dir / "step-00000020";
    if (file == std::string("w0000.h5")) {
      damage_data(step);
    } else {
      std::ofstream(step / file, std::ios::in | std::ios::binary) << "X";
    }
    EXPECT_FALSE(is_valid_checkpoint(step)) << file;
    save_steps(dir.path(), {20});
    EXPECT_TRUE(is_valid_checkpoint(step)) << file;
  }
}

TEST(CheckpointListTest, PointersThatLeadNowhereGiveNothing) {
  TempDir dir;
  EXPECT_FALSE(read_pointer(dir.path(), kLatestPointer));
  save_steps(dir.path(), {10});
  EXPECT_EQ(read_pointer(dir.path(), kLatestPointer)->step, 10);
  for (const std::string content :
       {"", "\n", "step-00000011\n", "../step-00000010", ".staging-00000010.x", "step-10"}) {
    dir.write("LATEST", content);
    EXPECT_FALSE(read_pointer(dir.path(), kLatestPointer)) << content;
  }
  dir.write("LATEST", std::string(100'000, 'x'));
  EXPECT_FALSE(read_pointer(dir.path(), kLatestPointer));
}

TEST(CheckpointListTest, OnlyStepDirectoriesAreRemovedAndLinksAreNotFollowed) {
  TempDir dir, other;
  other.write("precious", "x");
  save_steps(dir.path(), {10});
  fs::create_directory_symlink(other.path(), dir / "step-00000020");
  fs::create_directory(dir / "mine");
  expect_error(ErrorCode::kIncomplete, [&] { remove_checkpoint(dir / "step-00000020"); });
  expect_error(ErrorCode::kIncomplete, [&] { remove_checkpoint(dir / "mine"); });
  fs::create_directory_symlink(other.path(), dir / "step-00000010/link");
  remove_checkpoint(dir / "step-00000010");
  EXPECT_FALSE(fs::exists(dir / "step-00000010"));
  EXPECT_EQ(other.read("precious"), "x");
}

TEST(CheckpointListTest, LeftoversOfTheDeadGoAndWorkInProgressStays) {
  TempDir dir;
  begin_checkpoint(dir.path(), 1, "mine");  // this process lives
  begin_checkpoint(dir.path(), 2, "dead");
  const fs::path owner = dir / ".staging-00000002.dead/OWNER";
  nlohmann::json dead = nlohmann::json::parse(content_of(owner));
  dead["boot_id"] = "an-earlier-start";
  std::ofstream(owner) << dead.dump();
  fs::create_directories(dir / ".staging-00000004.unowned");
  dir.write(".staging-00000005.torn/OWNER", "");  // killed while it was written
  fs::create_directories(dir / ".trash-00000003.abc/part");
  dir.write(".LATEST.0123456789abcdef.tmp", "step");
  dir.write(".notes.tmp", "a person's");
  EXPECT_EQ(remove_leftovers(dir.path()),
            (std::vector<std::string>{".staging-00000002.dead", ".staging-00000004.unowned",
                                      ".staging-00000005.torn", ".trash-00000003.abc"}));
  EXPECT_FALSE(fs::exists(dir / ".LATEST.0123456789abcdef.tmp"));
  EXPECT_TRUE(fs::exists(dir / ".notes.tmp"));
  EXPECT_TRUE(fs::exists(dir / ".staging-00000001.mine"));
}

}  // namespace
}  // namespace sutor
