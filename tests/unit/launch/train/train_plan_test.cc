// What trains is decided once, from a source that stays as it is, and is what storage marks.
#include "launch/train/train_plan.h"

#include <gtest/gtest.h>

#include "launch/model/session.h"
#include "recipes/recipe_reader.h"
#include "tests/support/expect_error.h"

namespace sutor {
namespace {

using testing::expect_error;

const std::string kModel = std::string(SUTOR_TEST_DATA) + "/golden/models/deepseek_v2_lite";

Recipe recipe_of(std::vector<std::string> sets) {
  sets.push_back("model.path=" + kModel);
  sets.push_back("output=unused");
  sets.push_back("esft.config=" + kModel + "/expert_config.json");
  return recipe_of_sets(sets);
}

std::vector<std::string> names_of(const ModelInfo& model) {
  std::vector<std::string> names;
  for (const TensorEntry& entry : model.tensors.entries()) names.push_back(entry.name);
  return names;
}

class TrainPlans : public ::testing::Test {
 protected:
  std::unique_ptr<Session> open(const ModelInfo& model, const TrainableSet& trainable) {
    return std::make_unique<Session>(source_, model, trainable, *world_, SessionOptions{});
  }
  // What trains without one of its names.
  TrainableSet all_but(const TrainableSet& set, size_t left_out) const {
    std::vector<std::string> names = set.names();
    names.erase(names.begin() + static_cast<int64_t>(left_out));
    return TrainableSet(source_.info, std::move(names));
  }

  const ModelSource source_{kModel};
  const std::unique_ptr<Comm> world_ = make_self_comm();
};

TEST_F(TrainPlans, LowRankPairsAreThePlansAndTheSourceStaysAsItIs) {
  const std::vector<std::string> before = names_of(source_.info);
  const TrainPlan two = make_train_plan(
      recipe_of({"train.method=lora", "lora.rank=2", "lora.targets=[attention, experts]"}),
      source_.info);
  const TrainPlan four =
      make_train_plan(recipe_of({"train.method=lora", "lora.rank=4"}), source_.info);
  const TrainPlan chosen = make_train_plan(recipe_of({}), source_.info);
  EXPECT_EQ(names_of(source_.info), before);
  EXPECT_EQ(names_of(chosen.model), before);
  // The pairs stand after the model's own tensors, and are what trains.
  std::vector<std::string> expected = before;
  expected.insert(expected.end(), two.trainable.names().begin(), two.trainable.names().end());
  EXPECT_EQ(names_of(two.model), expected);
  EXPECT_EQ(two.model.tensors.find(two.trainable.names().front())->shape[0], 2);
  EXPECT_EQ(four.model.tensors.find(four.trainable.names().front())->shape[0], 4);
  for (const TrainPlan* plan : {&two, &four, &chosen}) {
    check_marked(plan->trainable, open(plan->model, plan->trainable)->store());
  }
}

// Checkpoints carry this digest: of the names in the model's order, each with its line end. The one
// that is written out here is what an earlier program gave a checkpoint.
TEST_F(TrainPlans, TheDigestIsOfTheNamesInTheModelsOrder) {
  for (const char* method : {"esft", "full", "lora"}) {
    const TrainPlan plan =
        make_train_plan(recipe_of({std::string("train.method=") + method}), source_.info);
    std::string text;
    for (const std::string& name : names_of(plan.model)) {
      if (plan.trainable.contains(name)) text += name + "\n";
    }
    EXPECT_EQ(plan.digest, xxh3(text)) << method;
  }
  EXPECT_EQ(make_train_plan(recipe_of({}), source_.info).digest.text(),
            "xxh3:64e1dad5b3f4df50bdc7e7c9e6e34407");
}

TEST_F(TrainPlans, WhatStorageMarkedOtherwiseIsFound) {
  const TrainPlan plan = make_train_plan(recipe_of({}), source_.info);
  const TrainableSet& all = plan.trainable;
  const size_t last = all.names().size() - 1;
  // Of an expert without its down projection: storage keeps experts whole.
  ASSERT_TRUE(all.names()[last].find("down_proj") != std::string::npos);
  const TrainableSet fewer = all_but(all, last);
  expect_error(ErrorCode::kTwoTrainableSets, {all.names()[last], "not planned"},
               [&] { check_marked(fewer, open(source_.info, fewer)->store()); });
  // Of an expert without its gate projection: it is stored as frozen.
  size_t gate = last;
  while (all.names()[gate].find("gate_proj") == std::string::npos) --gate;
  const TrainableSet without_gate = all_but(all, gate);
  expect_error(ErrorCode::kTwoTrainableSets, {all.names()[gate + 1], "marked on no rank"},
               [&] { check_marked(without_gate, open(source_.info, without_gate)->store()); });
}

TEST_F(TrainPlans, InASessionInWhichNothingTrainsAllIsFrozen) {
  Session session(source_, *world_, {});
  EXPECT_TRUE(session.store().trainable().names().empty());
  EXPECT_EQ(session.store().frozen_tensors().size(), source_.info.tensors.size());
  check_marked(TrainableSet(), session.store());
}

}  // namespace
}  // namespace sutor
