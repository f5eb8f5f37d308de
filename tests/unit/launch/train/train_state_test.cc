// What a checkpoint says of its training, read back.
#include <gtest/gtest.h>

#include "csrc/base/error.h"
#include "launch/train/checkpointer.h"

namespace sutor {
namespace {

TrainState sample_state() {
  TrainState state;
  state.step = 7;
  state.cursor = {2, 31};
  state.seed = 42;
  state.schedule = "stage: train\noptim.lr: 1e-05\ntrain.micro_batch: 2\ntrain.seed: 42\n";
  state.best_metric = "task.loss";
  state.best_value = 0.5;
  state.best_step = 5;
  state.base_values = {{"task.loss", 0.75}, {"task.ppl", 2.125}};
  return state;
}

TEST(TrainStateTest, ReadsBackWhatWasWritten) {
  const TrainState state = sample_state();
  const TrainState again = train_state_from(to_json(state), "here");
  EXPECT_EQ(to_json(again), to_json(state));
}

TEST(TrainStateTest, AForkKnowsItsParentAndOthersSayNothing) {
  TrainState state = sample_state();
  EXPECT_FALSE(to_json(state).contains("fork"));
  state.fork = {{"from", "a/step-00000003"}, {"step", 3}, {"manifest", "xxh3:1"}};
  state.optimizer_steps = 3;
  const TrainState again = train_state_from(to_json(state), "here");
  EXPECT_EQ(again.fork, state.fork);
  EXPECT_EQ(again.optimizer_steps, 3);
}

TEST(TrainStateTest, KeysThatRecipesHadOnceAreNotPartOfATrainingAnyMore) {
  nlohmann::json json = to_json(sample_state());
  json["schedule"] =
      "stage: train\noptim.lr: 1e-05\ntrain.micro_batch: 2\ntrain.recompute: none\n"
      "train.z_loss: 0\ntrain.seed: 42\ntrain.early_stop: null\n";
  EXPECT_EQ(train_state_from(json, "here").schedule, sample_state().schedule);
}

TEST(TrainStateTest, ABalanceLossOfFormerProgramsWasOfEachMicroBatch) {
  nlohmann::json json = to_json(sample_state());
  const auto schedule_of = [&](const std::string& schedule) {
    json["schedule"] = schedule;
    return train_state_from(json, "here").schedule;
  };
  EXPECT_EQ(schedule_of("stage: train\ntrain.balance_loss: 0.01\ntrain.seed: 42\n"),
            "stage: train\ntrain.balance_loss: 0.01\ntrain.seed: 42\n"
            "train.balance_over: each micro-batch by itself\n");
  for (const std::string same :
       {"stage: train\ntrain.balance_loss: 0\ntrain.seed: 42\n",
        "stage: train\ntrain.balance_loss: 0.01\ntrain.balance_over: auto\n"}) {
    EXPECT_EQ(schedule_of(same), same);
  }
}

TEST(TrainStateTest, OfAProgramThatLeftNoDocumentOutItSaysSo) {
  nlohmann::json json = to_json(sample_state());
  json.erase("leaves_out");
  EXPECT_FALSE(train_state_from(json, "here").leaves_out);
  json["leaves_out"] = true;
  EXPECT_TRUE(train_state_from(json, "here").leaves_out);
}

TEST(TrainStateTest, OfAProgramThatDidNotKeepTheBasesEvaluationsItHasNone) {
  nlohmann::json json = to_json(sample_state());
  json.erase("base");
  EXPECT_TRUE(train_state_from(json, "here").base_values.empty());
}

TEST(TrainStateTest, AMissingMemberIsNamed) {
  nlohmann::json json = to_json(sample_state());
  json.erase("seed");
  try {
    train_state_from(json, "step-00000007");
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadManifest);
    EXPECT_NE(std::string(error.what()).find("step-00000007"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("seed"), std::string::npos);
  }
}

}  // namespace
}  // namespace sutor
