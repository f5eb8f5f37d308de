// Which evaluation is the best so far.
#include "launch/train/best_metric.h"

#include <gtest/gtest.h>

#include <limits>

namespace sutor {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TrainState state_of(const std::string& metric, double value = 0, int64_t step = -1) {
  TrainState state;
  state.best_metric = metric;
  state.best_value = value;
  state.best_step = step;
  return state;
}

EvalMetrics metrics_of(int64_t step, const std::string& set, const std::string& key, double value) {
  EvalMetrics metrics{.step = step, .set = set, .tokens = 10};
  metrics.values[key] = value;
  return metrics;
}

// Steps 10, 20, ... with these values: the step that is best in the end; -1: none.
int64_t best_step(const std::string& key, const std::vector<double>& values) {
  TrainState state = state_of("task." + key);
  int64_t step = 0;
  for (const double value : values) {
    step += 10;
    const auto better = better_value(state, metrics_of(step, "task", key, value));
    if (!better) continue;
    EXPECT_EQ(*better, value);
    state.best_value = *better;
    state.best_step = step;
  }
  return state.best_step;
}

TEST(BestMetricTest, ANameIsASetAndAKeyWhateverDotsTheSetHas) {
  EXPECT_EQ(parse_metric_name("task.loss").set, "task");
  EXPECT_EQ(parse_metric_name("task.loss").key, "loss");
  EXPECT_EQ(parse_metric_name("v1.2-held.out.ppl").set, "v1.2-held.out");
  EXPECT_EQ(parse_metric_name("v1.2-held.out.ppl").key, "ppl");
  EXPECT_EQ(parse_metric_name("").set, "");
  EXPECT_EQ(parse_metric_name("").key, "");
}

TEST(BestMetricTest, TheLowestLossIsBest) {
  EXPECT_EQ(best_step("loss", {3.0, 2.5, 2.75}), 20);
  EXPECT_EQ(best_step("loss", {3.0, 3.5, 4.0}), 10);
  EXPECT_EQ(best_step("ppl", {3.0, 2.5, 1.5}), 30);
}

TEST(BestMetricTest, TheHighestAccuracyIsBest) {
  EXPECT_EQ(best_step("token_acc", {0.5, 0.75, 0.25}), 20);
  EXPECT_EQ(best_step("token_acc", {0.0, 0.0}), 10);
}

TEST(BestMetricTest, OfEqualOnesTheFirstStaysBest) {
  EXPECT_EQ(best_step("loss", {3.0, 2.5, 2.5, 2.5}), 20);
  EXPECT_EQ(best_step("token_acc", {0.5, 0.75, 0.75}), 20);
}

TEST(BestMetricTest, TheFirstOfATrainingIsBestHoweverBad) {
  EXPECT_EQ(best_step("loss", {1e30}), 10);
  EXPECT_EQ(best_step("token_acc", {0.0}), 10);
}

TEST(BestMetricTest, WithoutEvaluationsThereIsNone) { EXPECT_EQ(best_step("loss", {}), -1); }

TEST(BestMetricTest, OtherSetsDoNotCount) {
  const TrainState state = state_of("task.loss");
  EXPECT_FALSE(better_value(state, metrics_of(10, "general", "loss", 1)));
  EXPECT_FALSE(better_value(state, metrics_of(10, "task.loss", "loss", 1)));
  EXPECT_TRUE(better_value(state, metrics_of(10, "task", "loss", 1)));
}

TEST(BestMetricTest, AnEvaluationWithoutTheMetricDoesNotCount) {
  EXPECT_FALSE(better_value(state_of("task.loss"), metrics_of(10, "task", "ppl", 1)));
  EXPECT_FALSE(better_value(state_of(""), metrics_of(10, "task", "loss", 1)));
  EXPECT_FALSE(better_value(state_of("loss"), metrics_of(10, "task", "loss", 1)));
}

TEST(BestMetricTest, TheBaseModelIsNotAStepOfTheTraining) {
  EXPECT_FALSE(better_value(state_of("task.loss"), metrics_of(0, "task", "loss", 0.1)));
}

TEST(BestMetricTest, AResumedTrainingGoesOnFromItsBest) {
  const TrainState state = state_of("task.loss", 2.0, 40);
  EXPECT_FALSE(better_value(state, metrics_of(50, "task", "loss", 2.0)));
  EXPECT_FALSE(better_value(state, metrics_of(50, "task", "loss", 2.1)));
  EXPECT_EQ(better_value(state, metrics_of(50, "task", "loss", 1.9)), 1.9);
}

TEST(BestMetricTest, WhatIsNoNumberIsNeverBestAndHindersNoOther) {
  for (const double none : {kNan, -kNan, kInfinity}) {
    EXPECT_EQ(best_step("loss", {none}), -1);
    EXPECT_EQ(best_step("loss", {none, 3.0, 2.0}), 30);
    EXPECT_EQ(best_step("loss", {3.0, none, 4.0}), 10);
    EXPECT_EQ(best_step("token_acc", {none, 0.25, 0.5}), 30);
  }
}

TEST(BestMetricTest, TheHighestShareOfExactMatchesIsBest) {
  EXPECT_EQ(best_step("exact_match", {0.25, 0.75, 0.5}), 20);
}

TEST(BestMetricTest, OfEvaluationsOnlyTheBasesAreRemembered) {
  TrainState state = state_of("task.loss");
  remember_base(state, metrics_of(0, "task", "loss", 3.0));
  remember_base(state, metrics_of(0, "task", "ppl", kInfinity));
  remember_base(state, metrics_of(0, "general", "loss", 2.0));
  remember_base(state, metrics_of(10, "task", "loss", 1.0));
  const std::map<std::string, double> expected = {{"task.loss", 3.0}, {"general.loss", 2.0}};
  EXPECT_EQ(state.base_values, expected);
}

}  // namespace
}  // namespace sutor
