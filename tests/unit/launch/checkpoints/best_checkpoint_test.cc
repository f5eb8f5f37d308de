// The best checkpoint is the one that the evaluations on the disk say, wherever BEST points.
#include "launch/checkpoints/best_checkpoint.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "checkpoint/format/checkpoint_paths.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

class BestCheckpointTest : public ::testing::Test {
 protected:
  BestCheckpointTest() {
    for (const int64_t step : {1, 2, 3}) fs::create_directories(root_ / step_directory(step));
  }

  void log(int64_t step, const std::string& set, const std::string& key, double value) {
    rows_.push_back({.step = step, .set = set, .values = {{key, value}}});
  }
  int64_t best(BestValue known, int64_t last = 3) const {
    return best_of(known, rows_, root_, last).step;
  }

  testing::TempDir dir_;
  fs::path root_ = dir_ / "checkpoints";
  std::vector<EvalMetrics> rows_;
};

TEST_F(BestCheckpointTest, AnEvaluationThatNoCheckpointKnowsOfYetCounts) {
  log(2, "task", "loss", 2.0);
  log(3, "task", "loss", 1.0);
  EXPECT_EQ(best({"task.loss", 2.0, 2}), 3);
  EXPECT_EQ(best({"task.loss", 2.0, 2}, /*last=*/2), 2);  // what is trained again
}

TEST_F(BestCheckpointTest, AnotherMetricDecidesByWhatWasMeasured) {
  log(1, "other", "token_acc", 0.5);
  log(2, "other", "token_acc", 0.75);
  log(2, "task", "loss", 9.0);
  log(3, "other", "token_acc", 0.75);
  EXPECT_EQ(best({.metric = "other.token_acc"}), 2);  // of equal ones the first
  EXPECT_EQ(best({.metric = "never.loss"}), -1);
}

TEST_F(BestCheckpointTest, OnlyCheckpointsThatAreThereCount) {
  log(1, "task", "loss", 1.0);
  log(2, "task", "loss", 2.0);
  fs::remove_all(root_ / step_directory(1));
  EXPECT_EQ(best({"task.loss", 1.0, 1}), 2);
}

TEST_F(BestCheckpointTest, IsThatOfTheStateAndTheEvaluationsWhateverBestSays) {
  dir_.write("eval.jsonl", "{\"step\": 3, \"set\": \"task\", \"loss\": 1.5}\n");
  write_pointer(root_, kBestPointer, 1);
  NewestCheckpoint newest;
  newest.entry = {3, root_ / step_directory(3)};
  newest.state = {{"best", {{"metric", "task.loss"}, {"value", 2.0}, {"step", 2}}}};
  EXPECT_EQ(best_checkpoint(root_, newest)->step, 3);
  dir_.write("eval.jsonl", "");
  EXPECT_EQ(best_checkpoint(root_, newest)->step, 2);
  newest.state = {{"best", {{"metric", "task.loss"}, {"value", 0.0}, {"step", -1}}}};
  EXPECT_FALSE(best_checkpoint(root_, newest));
}

}  // namespace
}  // namespace sutor
