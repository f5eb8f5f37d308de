// Learning rates beside the schedules' definitions.
#include "launch/train/lr_schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "tests/support/expect_error.h"

namespace sutor {
namespace {

using testing::expect_error;

constexpr double kLr = 2e-4;

LrSchedule schedule(const std::string& name, int64_t steps, const std::string& warmup = "0",
                    const std::string& min_lr = "0") {
  return LrSchedule({.name = name, .warmup = warmup, .min_lr = min_lr}, kLr, steps);
}

TEST(LrScheduleTest, AConstantRateIsTheSameAtEveryStep) {
  const LrSchedule constant = schedule("constant", 10);
  for (int64_t step = 1; step <= 10; ++step) EXPECT_EQ(constant.at(step), kLr) << step;
}

TEST(LrScheduleTest, AConstantRateDoesNotKnowMinLr) {
  EXPECT_EQ(schedule("constant", 10, "0", "1e-5").at(10), kLr);
}

TEST(LrScheduleTest, WarmUpRisesInEqualStepsToTheFullRateAtItsLastStep) {
  for (const char* name : {"constant", "linear", "cosine"}) {
    const LrSchedule warm = schedule(name, 20, "4", "1e-5");
    for (int64_t step = 1; step <= 4; ++step) {
      EXPECT_DOUBLE_EQ(warm.at(step), kLr * static_cast<double>(step) / 4) << name << step;
    }
    EXPECT_EQ(warm.at(4), kLr) << name;
    EXPECT_LE(warm.at(5), kLr) << name;
  }
}

TEST(LrScheduleTest, AShareOfWarmUpIsRoundedUpToWholeSteps) {
  const auto warm_steps = [](const std::string& warmup, int64_t steps) {
    const LrSchedule schedule({.name = "constant", .warmup = warmup}, 1, steps);
    int64_t below = 0;
    for (int64_t step = 1; step <= steps; ++step) below += schedule.at(step) < 1;
    return below + 1;  // the last step of the warm-up has the full rate
  };
  EXPECT_EQ(warm_steps("10%", 100), 10);
  EXPECT_EQ(warm_steps("7%", 100), 7);  // 0.07 * 100 is a little more than 7 in binary
  EXPECT_EQ(warm_steps("3%", 101), 4);
  EXPECT_EQ(warm_steps("0.1%", 100), 1);
  EXPECT_EQ(warm_steps("100%", 12), 12);
}

TEST(LrScheduleTest, LinearFallsByEqualAmountsToMinLrBehindTheLastStep) {
  const LrSchedule linear = schedule("linear", 12, "2", "2e-5");
  const double fall = (kLr - 2e-5) / 10;
  EXPECT_EQ(linear.at(3), kLr);
  for (int64_t step = 4; step <= 13; ++step) {
    EXPECT_NEAR(linear.at(step - 1) - linear.at(step), fall, 1e-12) << step;
  }
  EXPECT_DOUBLE_EQ(linear.at(13), 2e-5);
}

// SGDR (arXiv 1608.03983), eq. 5, without restarts.
TEST(LrScheduleTest, CosineFallsAlongHalfAWaveToMinLrBehindTheLastStep) {
  const LrSchedule cosine = schedule("cosine", 25, "5", "10%");
  for (int64_t step = 6; step <= 26; ++step) {
    const double phase = std::numbers::pi * static_cast<double>(step - 6) / 20;
    EXPECT_NEAR(cosine.at(step), 0.1 * kLr + 0.5 * (kLr - 0.1 * kLr) * (1 + std::cos(phase)), 1e-15)
        << step;
  }
  EXPECT_DOUBLE_EQ(cosine.at(16), 0.55 * kLr);  // half-way
  EXPECT_DOUBLE_EQ(cosine.at(26), 0.1 * kLr);
}

// transformers 5.23.0, get_{linear,cosine}_schedule_with_warmup(optimizer, 3, 8): the rates that
// behind the warm-up stand at the optimizer's steps 4 .. 8, as shares of lr.
TEST(LrScheduleTest, BehindTheWarmUpTheRatesAreThoseOfTransformers) {
  const double linear[] = {1.0, 0.8, 0.6, 0.4, 0.2};
  const double cosine[] = {1.0, 0.9045084971874737, 0.6545084971874737, 0.34549150281252633,
                           0.09549150281252633};
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(schedule("linear", 8, "3").at(4 + i), kLr * linear[i], 1e-18) << i;
    EXPECT_NEAR(schedule("cosine", 8, "3").at(4 + i), kLr * cosine[i], 1e-18) << i;
  }
}

TEST(LrScheduleTest, NoStepOfATrainingHasARateOfZero) {
  for (const char* name : {"constant", "linear", "cosine"}) {
    for (const char* warmup : {"0", "1", "3%", "50%", "100%"}) {
      for (const int64_t steps : {1, 2, 3, 7, 1000, 100000}) {
        const LrSchedule rates = schedule(name, steps, warmup);
        EXPECT_GT(rates.at(1), 0) << name << " " << warmup << " " << steps;
        EXPECT_GT(rates.at(steps), 0) << name << " " << warmup << " " << steps;
      }
    }
  }
  EXPECT_EQ(schedule("linear", 8).at(9), 0);
  EXPECT_NEAR(schedule("cosine", 8).at(9), 0, 1e-20);
}

TEST(LrScheduleTest, BehindTheLastStepTheRateStaysAtMinLr) {
  for (const char* name : {"linear", "cosine"}) {
    const LrSchedule falling = schedule(name, 8, "0", "1e-5");
    for (const int64_t step : {9, 10, 1000}) EXPECT_DOUBLE_EQ(falling.at(step), 1e-5) << name;
  }
}

TEST(LrScheduleTest, ATrainingOfOneStepHasTheFullRate) {
  for (const char* name : {"constant", "linear", "cosine"}) {
    EXPECT_EQ(schedule(name, 1, "0", "1e-5").at(1), kLr) << name;
    EXPECT_EQ(schedule(name, 1, "1").at(1), kLr) << name;  // the last step of the warm-up, too
  }
}

TEST(LrScheduleTest, AWarmUpAsLongAsTheTrainingOrLongerJustRises) {
  for (const char* name : {"constant", "linear", "cosine"}) {
    EXPECT_EQ(schedule(name, 6, "6").at(6), kLr) << name;
    EXPECT_EQ(schedule(name, 6, "100%").at(6), kLr) << name;
    EXPECT_DOUBLE_EQ(schedule(name, 6, "12").at(6), kLr / 2) << name;
  }
}

TEST(LrScheduleTest, WhatCannotBeReadIsRefusedByItsKey) {
  expect_error(ErrorCode::kBadValue, {"schedule.warmup", "soon"},
               [] { schedule("linear", 8, "soon"); });
  expect_error(ErrorCode::kBadValue, {"schedule.warmup", "-1"},
               [] { schedule("linear", 8, "-1"); });
  expect_error(ErrorCode::kBadValue, {"schedule.min_lr", "x"},
               [] { schedule("linear", 8, "0", "x%"); });
}

}  // namespace
}  // namespace sutor
