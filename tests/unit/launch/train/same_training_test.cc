// Which keys may change between a training and its resumption, and how the others are named.
#include "launch/train/same_training.h"

#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "recipes/recipe_reader.h"
#include "recipes/recipe_steps.h"
#include "tests/support/expect_error.h"

namespace sutor {
namespace {

using testing::expect_error;

TrainState state_of(const std::vector<std::string>& changes) {
  std::vector<std::string> sets = {"model.path=base", "output=out", "data.train=[{path: a.jsonl}]",
                                   "data.eval=[{path: held.jsonl}]"};
  sets.insert(sets.end(), changes.begin(), changes.end());
  TrainState state;
  state.schedule = step_keys(recipe_of_sets(sets), RecipeStep::kTrain);
  state.data_digest = "xxh3:1";
  return state;
}

std::string printed(const TrainState& saved, const TrainState& now, bool print = true) {
  ::testing::internal::CaptureStdout();
  check_same_training(saved, now, "step-00000010", print);
  std::fflush(stdout);
  return ::testing::internal::GetCapturedStdout();
}

// Every key that decides a training, and no other: a new one belongs to either side on purpose.
TEST(SameTrainingTest, OnlyLengthMicroBatchAndEvaluationMayChange) {
  const std::set<std::string> free = {"schedule.steps", "schedule.epochs", "train.micro_batch"};
  std::istringstream lines(state_of({}).schedule);
  int may = 0, must_not = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string key = line.substr(0, line.find(':'));
    const bool is_free = free.count(key) > 0 || key.starts_with("eval.");
    EXPECT_EQ(may_change(line), is_free) << line;
    ++(is_free ? may : must_not);
  }
  EXPECT_GE(may, 6);
  EXPECT_GE(must_not, 20);
}

TEST(SameTrainingTest, AKeyIsNotFreeBecauseItsNameBeginsLikeAFreeOne) {
  EXPECT_TRUE(may_change("schedule.steps: 10"));
  for (const char* line :
       {"schedule.steps_of_warmup: 10", "train.micro_batches: 1", "evaluate.every: 2",
        "schedule.name: steps", "data.eval: \"a\" auto", "", "x schedule.steps: 10"}) {
    EXPECT_FALSE(may_change(line)) << line;
  }
}

TEST(SameTrainingTest, WhatMayChangeIsAllowedAndTold) {
  const TrainState saved = state_of({});
  for (const std::string set : {"schedule.steps=500", "schedule.epochs=3", "train.micro_batch=1",
                                "eval.every=7", "eval.before_training=false"}) {
    const std::string key = set.substr(0, set.find('='));
    const std::string told = printed(saved, state_of({set}));
    EXPECT_NE(told.find("resumed with other keys than before"), std::string::npos) << set;
    EXPECT_NE(told.find("\n  then " + key + ": "), std::string::npos) << told;
    EXPECT_NE(told.find("\n  now  " + key + ": " + set.substr(set.find('=') + 1)),
              std::string::npos)
        << told;
    EXPECT_EQ(printed(saved, state_of({set}), /*print=*/false), "");
  }
}

TEST(SameTrainingTest, AnEarlyStopMayComeGoAndChange) {
  const TrainState without = state_of({}), loss = state_of({"train.early_stop.metric=held.loss"}),
                   ppl = state_of({"train.early_stop.metric=held.ppl"});
  const std::string on = printed(without, loss), off = printed(loss, without),
                    other = printed(loss, ppl);
  EXPECT_NE(on.find("\n  now  train.early_stop.metric: held.loss"), std::string::npos) << on;
  EXPECT_EQ(on.find("\n  then "), std::string::npos) << on;
  EXPECT_NE(off.find("\n  then train.early_stop.metric: held.loss"), std::string::npos) << off;
  EXPECT_EQ(off.find("\n  now "), std::string::npos) << off;
  EXPECT_NE(other.find("\n  then train.early_stop.metric: held.loss"), std::string::npos) << other;
  EXPECT_NE(other.find("\n  now  train.early_stop.metric: held.ppl"), std::string::npos) << other;
}

TEST(SameTrainingTest, WithoutADifferenceNothingIsSaid) {
  EXPECT_EQ(printed(state_of({"optim.lr=1e-4"}), state_of({"optim.lr=1e-4"})), "");
}

TEST(SameTrainingTest, WhatDoesNotDecideATrainingDoesNotCount) {
  EXPECT_EQ(printed(state_of({}), state_of({"parallel.tp=2", "checkpoint.keep=1", "log.every=9",
                                            "train.threads=3", "export.format=[merged]"})),
            "");
}

TEST(SameTrainingTest, OtherKeysAreRefusedWithTheDifferenceNamed) {
  const TrainState saved = state_of({});
  const std::pair<std::string, std::string> changes[] = {{"optim.lr=3e-4", "0.0003"},
                                                         {"optim.betas=[0.8, 0.9]", "[0.8, 0.9]"},
                                                         {"optim.clip=0.5", "0.5"},
                                                         {"optim.weight_decay=0", "0"},
                                                         {"schedule.name=cosine", "cosine"},
                                                         {"schedule.warmup=5%", "5%"},
                                                         {"train.global_batch=64", "64"},
                                                         {"train.seed=1", "1"},
                                                         {"train.method=full", "full"},
                                                         {"model.dtype=fp32", "fp32"},
                                                         {"data.seq_len=128", "128"},
                                                         {"data.packing=false", "false"},
                                                         {"lora.rank=4", "4"},
                                                         {"train.balance_loss=0.01", "0.01"}};
  for (const auto& [set, value] : changes) {
    const std::string key = set.substr(0, set.find('='));
    expect_error(ErrorCode::kOtherRecipe,
                 {"step-00000010", "two trainings", "\n  then " + key + ": ",
                  "\n  now  " + key + ": " + value},
                 [&] { check_same_training(saved, state_of({set}), "step-00000010", true); });
  }
}

TEST(SameTrainingTest, AnotherSetOfDataIsRefused) {
  TrainState now = state_of({});
  now.data_digest = "xxh3:2";
  const std::string message = expect_error(ErrorCode::kOtherRecipe, [&] {
    check_same_training(state_of({}), now, "step-00000010", true);
  });
  EXPECT_NE(message.find("\n  the training data"), std::string::npos) << message;
  EXPECT_EQ(message.find("\n  then"), std::string::npos) << message;
  expect_error(
      ErrorCode::kOtherRecipe, {"then data.eval: ", "held", "now  data.eval: ", "other"},
      [] { check_same_training(state_of({}), state_of({"data.eval[0].name=other"}), "x", true); });
}

TEST(SameTrainingTest, OfManyDifferencesOnlyTheForbiddenOnesAreInTheRefusal) {
  const std::string message = expect_error(ErrorCode::kOtherRecipe, [] {
    check_same_training(
        state_of({}), state_of({"schedule.steps=9", "optim.eps=1e-6", "train.seed=3"}), "x", true);
  });
  for (const char* word :
       {"then optim.eps", "now  optim.eps", "then train.seed", "now  train.seed"}) {
    EXPECT_NE(message.find(word), std::string::npos) << message;
  }
  EXPECT_EQ(message.find("schedule.steps"), std::string::npos) << message;
}

TEST(SameTrainingTest, ACheckpointWhoseSamplesStandInAnotherOrderIsRefused) {
  const TrainState older = state_of({});
  TrainState now = older;
  now.leaves_out = true;
  expect_error(ErrorCode::kOtherRecipe, {"documents without a token in the loss"},
               [&] { check_same_training(older, now, "step-00000010", true); });
  EXPECT_EQ(printed(now, now), "");
}

// A key that one of the two programs does not know yet.
TEST(SameTrainingTest, AKeyThatOnlyOneSideHasIsNamedOnItsSide) {
  TrainState newer = state_of({});
  newer.schedule += "optim.nesterov: true\n";
  const TrainState older = state_of({});
  const auto refusal = [](const TrainState& saved, const TrainState& now) {
    return expect_error(ErrorCode::kOtherRecipe,
                        [&] { check_same_training(saved, now, "x", true); });
  };
  EXPECT_NE(refusal(older, newer).find("\n  now  optim.nesterov: true"), std::string::npos);
  EXPECT_NE(refusal(newer, older).find("\n  then optim.nesterov: true"), std::string::npos);
}

}  // namespace
}  // namespace sutor
