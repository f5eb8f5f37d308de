// A training that another one replaces: nothing of it is lost before the new one has a checkpoint,
// whenever the job ends.
#include "launch/output/replaced_training.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>

#include "csrc/base/directory.h"
#include "launch/output/output_lock.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::expect_error;
using testing::SampleValues;
using testing::save_sample;
using testing::TempDir;

constexpr const char* kEvents = "tensorboard/events.out.tfevents.1764300000000000.host.7";

class ReplacedTrainingTest : public ::testing::Test {
 protected:
  ReplacedTrainingTest() {
    save(10);
    for (const char* log : {"metrics.jsonl", "eval.jsonl"}) {
      dir_.write(std::string("run/") + log, R"({"step":1,"loss":2})"
                                            "\n");
    }
    dir_.write(std::string("run/") + kEvents, "events");
    dir_.write("run/recipe.resolved.yaml", "old");
    dir_.write("run/scores.h5", "scores");
    before_ = content();
  }
  void save(int64_t step) {
    SampleValues values({{"w", {2, 4}}});
    save_sample(paths_.checkpoints(), step, values, 1);
  }
  // Every file of the run, but for the lock.
  std::map<std::string, std::string> content() {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(paths_.output)) {
      if (!entry.is_regular_file() || entry.path() == paths_.lock()) continue;
      files[entry.path().lexically_relative(paths_.output).string()] = dir_.read(entry.path());
    }
    return files;
  }
  // What the new training writes before its first checkpoint.
  void begin_new() {
    dir_.write("run/metrics.jsonl", R"({"step":1,"loss":9})"
                                    "\n");
    dir_.write("run/recipe.resolved.yaml", "new");
    dir_.write("run/checkpoints/.staging-00000002.abc/w0000.h5", "half");
  }
  std::vector<fs::path> aside() {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(paths_.output)) {
      if (entry.path().filename().string().starts_with(".replaced-")) found.push_back(entry.path());
    }
    return found;
  }

  TempDir dir_;
  RunPaths paths_{dir_ / "run"};
  std::map<std::string, std::string> before_;
};

TEST_F(ReplacedTrainingTest, IsBackWhenTheNewOneFailsBeforeItsFirstCheckpoint) {
  {
    const ReplacedTraining replaced(paths_);
    EXPECT_FALSE(fs::exists(paths_.checkpoints()));
    EXPECT_TRUE(fs::exists(paths_.scores()));
    begin_new();
  }
  EXPECT_EQ(content(), before_);
  EXPECT_TRUE(aside().empty());
}

TEST_F(ReplacedTrainingTest, IsDeletedWhenTheNewOneHasACheckpoint) {
  ReplacedTraining replaced(paths_);
  begin_new();
  save(2);
  replaced.remove();
  EXPECT_TRUE(aside().empty());
  EXPECT_FALSE(fs::exists(paths_.checkpoints() / "step-00000010"));
  EXPECT_EQ(dir_.read(paths_.resolved_recipe()), "new");
}

// A checkpoint that was published just before the error was heard of is not thrown away.
TEST_F(ReplacedTrainingTest, AnErrorAfterTheFirstCheckpointKeepsTheNewOne) {
  {
    const ReplacedTraining replaced(paths_);
    save(2);
  }
  EXPECT_TRUE(aside().empty());
  EXPECT_TRUE(fs::exists(paths_.checkpoints() / "step-00000002"));
}

// Every state that a kill can leave: after each move aside, while the new one trains, and after
// each move back.
TEST_F(ReplacedTrainingTest, TheNextStartPutsItBackWheneverAKillCame) {
  const std::vector<std::string> parts = {"checkpoints", "metrics.jsonl", "eval.jsonl",
                                          "tensorboard", "recipe.resolved.yaml"};
  for (size_t moved = 0; moved <= parts.size(); ++moved) {
    for (size_t back = 0; back <= moved; ++back) {
      if (back > 0 && moved < parts.size()) continue;
      fs::create_directory(paths_.output / ".replaced-x");
      for (size_t i = 0; i < moved; ++i) {
        fs::rename(paths_.output / parts[i], paths_.output / ".replaced-x" / parts[i]);
      }
      if (moved == parts.size()) begin_new();
      for (size_t i = moved; i-- > moved - back;) {
        fs::remove_all(paths_.output / parts[i]);
        fs::rename(paths_.output / ".replaced-x" / parts[i], paths_.output / parts[i]);
      }
      { const OutputLock next(paths_.output); }
      EXPECT_EQ(content(), before_) << moved << " moved, " << back << " moved back";
      EXPECT_TRUE(aside().empty());
    }
  }
}

TEST_F(ReplacedTrainingTest, TheNextStartDeletesItWhenTheNewOneHasACheckpoint) {
  fs::create_directory(paths_.output / ".replaced-x");
  fs::rename(paths_.checkpoints(), paths_.output / ".replaced-x/checkpoints");
  save(2);
  { const OutputLock next(paths_.output); }
  EXPECT_TRUE(aside().empty());
  EXPECT_TRUE(fs::exists(paths_.checkpoints() / "step-00000002"));
}

// Whether they are damaged, or the disk answers wrongly for a moment.
TEST_F(ReplacedTrainingTest, BothStayWhenTheNewCheckpointsCannotBeRead) {
  fs::create_directory(paths_.output / ".replaced-x");
  fs::rename(paths_.checkpoints(), paths_.output / ".replaced-x/checkpoints");
  save(2);
  fs::remove(paths_.checkpoints() / "step-00000002/MANIFEST.json");
  { const OutputLock next(paths_.output); }
  EXPECT_EQ(aside().size(), 1u);
  EXPECT_TRUE(fs::exists(paths_.checkpoints() / "step-00000002/w0000.h5"));
}

TEST_F(ReplacedTrainingTest, FilesOfAnotherProgramAreNamedAndStay) {
  for (const char* name :
       {"checkpoints/epoch1.pt", "checkpoints/epoch1/model.pt",
        "checkpoints/step-00000010/model.pt", "tensorboard/events.out.tfevents.1",
        "tensorboard/events.out.tfevents.1764300000.host.7.0",
        "checkpoints/step-00000010/more/x"}) {
    const fs::path foreign = dir_.write(std::string("run/") + name, "precious");
    const auto all = content();
    expect_error(ErrorCode::kOutputExists, {"not made by a training of sutor", "run/"},
                 [&] { ReplacedTraining replaced(paths_); });
    EXPECT_EQ(content(), all) << name;
    fs::remove(foreign);
    if (fs::is_empty(foreign.parent_path())) fs::remove(foreign.parent_path());
  }
  dir_.write("run/metrics.jsonl", "epoch,loss\n");
  expect_error(ErrorCode::kOutputExists, {"metrics.jsonl"},
               [&] { ReplacedTraining replaced(paths_); });
}

TEST(OutputLockTest, LinksInThePlaceOfOurNamesAreRefused) {
  for (const char* name :
       {"checkpoints", "tensorboard", "tokens", "export", "evaluation", "evaluation/trained",
        "metrics.jsonl", "eval.jsonl", "scores.h5", "recipe.resolved.yaml", "expert_config.json",
        "heat_map.svg", "stages.json", "checkpoints/LATEST", "checkpoints/BEST", ".lock"}) {
    TempDir dir;
    dir.write("elsewhere/precious", "x");
    fs::create_directories((dir / "run" / name).parent_path());
    fs::create_symlink(dir / "elsewhere", dir / "run" / name);
    expect_error(ErrorCode::kOutputExists, {name, "symbolic link to", "elsewhere"},
                 [&] { OutputLock lock(dir / "run"); });
    EXPECT_EQ(dir.read("elsewhere/precious"), "x");
  }
}

TEST(OutputLockTest, TheOutputItselfMayBeALink) {
  TempDir dir;
  fs::create_directory(dir / "elsewhere");
  fs::create_directory_symlink(dir / "elsewhere", dir / "run");
  const OutputLock lock(dir / "run");
  EXPECT_TRUE(fs::exists(dir / "elsewhere/.lock"));
  expect_error(ErrorCode::kBusy, {"elsewhere"}, [&] { OutputLock other(dir / "elsewhere"); });
}

TEST(OutputLockTest, ProbesOfAKilledJobGo) {
  TempDir dir;
  dir.write("run/.probe.0123/a", "x");
  dir.write("run/checkpoints/.probe.4567/b", "x");
  dir.write("run/.probe.txt", "a file is none");
  { const OutputLock lock(dir / "run"); }
  EXPECT_FALSE(fs::exists(dir / "run/.probe.0123"));
  EXPECT_FALSE(fs::exists(dir / "run/checkpoints/.probe.4567"));
  EXPECT_TRUE(fs::exists(dir / "run/.probe.txt"));
}

TEST(OutputLockTest, TemporaryFilesOfAKilledJobGo) {
  TempDir dir;
  for (const char* name : {"metrics.jsonl", "tokens/a.tokens.h5", "checkpoints/LATEST"}) {
    const fs::path left = temporary_name(dir / "run" / name);
    dir.write("run" / left.lexically_relative(dir / "run"), "x");
  }
  { const OutputLock lock(dir / "run"); }
  for (const auto& entry : fs::recursive_directory_iterator(dir / "run")) {
    EXPECT_TRUE(entry.is_directory()) << entry.path();
  }
}

}  // namespace
}  // namespace sutor
