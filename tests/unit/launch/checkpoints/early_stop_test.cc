// When evaluations have stopped to get better.
#include "launch/checkpoints/early_stop.h"

#include <gtest/gtest.h>

#include <limits>

namespace sutor {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

EvalMetrics evaluation(int64_t step, const std::string& set, const std::string& key, double value) {
  EvalMetrics metrics{.step = step, .set = set};
  metrics.values[key] = value;
  return metrics;
}

// Evaluations at steps 0 (before training), 10, 20, ...: the step at which it is due; -1: never.
int64_t stops_at(const EarlyStopOptions& options, const std::vector<double>& values,
                 int64_t first = 0) {
  EarlyStop stop(options);
  int64_t step = first;
  const std::string key =
      options.metric ? options.metric->substr(options.metric->find('.') + 1) : "loss";
  for (const double value : values) {
    stop.add(evaluation(step, "task", key, value));
    if (stop.due()) return step;
    step += 10;
  }
  return -1;
}

TEST(EarlyStopTest, ItIsDueAfterAsManyEvaluationsInARowWithoutAnImprovement) {
  EXPECT_EQ(stops_at({"task.loss", 2, 0}, {3.0, 2.0, 2.5, 2.5, 1.0}), 30);
  EXPECT_EQ(stops_at({"task.loss", 2, 0}, {3.0, 2.0, 2.5, 1.9, 2.0, 2.0}), 50);
  EXPECT_EQ(stops_at({"task.loss", 3, 0}, {3.0, 2.0, 2.5, 2.5}), -1);
  EXPECT_EQ(stops_at({"task.loss", 1, 0}, {3.0, 3.0}), 10);  // equal is not better
}

TEST(EarlyStopTest, TheBaseIsACandidateForTheBest) {
  EXPECT_EQ(stops_at({"task.loss", 2, 0}, {1.0, 2.0, 1.5}), 20);
  // Without an evaluation before training the first one is the best so far.
  EXPECT_EQ(stops_at({"task.loss", 2, 0}, {2.0, 1.5}, /*first=*/10), -1);
}

TEST(EarlyStopTest, LessThanMinDeltaIsNoImprovementFromTheBestOn) {
  EXPECT_EQ(stops_at({"task.loss", 2, 0.5}, {3.0, 2.75, 2.5}), 20);   // 0.5 is not more than 0.5
  EXPECT_EQ(stops_at({"task.loss", 2, 0.5}, {3.0, 2.75, 2.4}), -1);   // of both together
  EXPECT_EQ(stops_at({"task.loss", 2, 0.5}, {3.0, 3.75, 4.75}), 20);  // worse, however much
}

TEST(EarlyStopTest, OfAccuracyAndScoresMoreIsBetter) {
  for (const char* metric : {"task.token_acc", "task.exact_match", "task.rouge_l"}) {
    EXPECT_EQ(stops_at({metric, 1, 0}, {0.1, 0.2, 0.3, 0.2}), 30) << metric;
    EXPECT_EQ(stops_at({metric, 1, 0}, {0.3, 0.2}), 10) << metric;
  }
}

TEST(EarlyStopTest, OtherSetsOtherMetricsNoNumbersAndRepeatedStepsDoNotCount) {
  EarlyStop stop({"task.loss", 1, 0});
  stop.add(evaluation(0, "task", "loss", 2.0));
  stop.add(evaluation(10, "general", "loss", 9.0));
  stop.add(evaluation(10, "task", "ppl", 9.0));
  stop.add(evaluation(10, "task", "loss", kNan));
  stop.add(evaluation(0, "task", "loss", 9.0));  // measured again
  EXPECT_FALSE(stop.due());
  stop.add(evaluation(10, "task", "loss", 9.0));
  EXPECT_TRUE(stop.due());
}

TEST(EarlyStopTest, WithoutAMetricItIsNeverDue) {
  EXPECT_EQ(stops_at({}, {1, 2, 3, 4, 5, 6, 7}), -1);
  EXPECT_EQ(EarlyStop({}).rule(), "");
}

TEST(EarlyStopTest, SaysWhatDidNotGetBetterAndSinceWhen) {
  EarlyStop stop({"task.loss", 1, 0.25});
  stop.add(evaluation(40, "task", "loss", 2.5));
  stop.add(evaluation(50, "task", "loss", 2.375));
  for (const char* word : {"task.loss", "0.25", "1 evaluation;", "2.500000", "at step 40"}) {
    EXPECT_NE(stop.text().find(word), std::string::npos) << stop.text();
  }
}

}  // namespace
}  // namespace sutor
