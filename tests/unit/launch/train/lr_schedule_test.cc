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

TEST(LrScheduleTest, LinearFallsByEqualAmountsToMinLrAtTheLastStep) {
  const LrSchedule linear = schedule("linear", 12, "2", "2e-5");
  const double fall = (kLr - 2e-5) / 10;
  for (int64_t step = 3; step <= 12; ++step) {
    EXPECT_NEAR(linear.at(step - 1) - linear.at(step), fall, 1e-12) << step;
  }
  EXPECT_DOUBLE_EQ(linear.at(12), 2e-5);
}

// SGDR (arXiv 1608.03983), eq. 5, without restarts.
TEST(LrScheduleTest, CosineFallsAlongHalfAWaveToMinLrAtTheLastStep) {
  const LrSchedule cosine = schedule("cosine", 25, "5", "10%");
  for (int64_t step = 6; step <= 25; ++step) {
    const double phase = std::numbers::pi * static_cast<double>(step - 5) / 20;
    EXPECT_NEAR(cosine.at(step), 0.1 * kLr + 0.5 * (kLr - 0.1 * kLr) * (1 + std::cos(phase)), 1e-15)
        << step;
  }
  EXPECT_DOUBLE_EQ(cosine.at(15), 0.55 * kLr);  // half-way
  EXPECT_DOUBLE_EQ(cosine.at(25), 0.1 * kLr);
}

TEST(LrScheduleTest, WithoutMinLrItEndsAtZero) {
  EXPECT_EQ(schedule("linear", 8).at(8), 0);
  EXPECT_NEAR(schedule("cosine", 8).at(8), 0, 1e-20);
}

TEST(LrScheduleTest, BehindTheLastStepTheRateStaysAtMinLr) {
  for (const char* name : {"linear", "cosine"}) {
    const LrSchedule falling = schedule(name, 8, "0", "1e-5");
    for (const int64_t step : {8, 9, 1000}) EXPECT_DOUBLE_EQ(falling.at(step), 1e-5) << name;
  }
}

TEST(LrScheduleTest, ATrainingOfOneStepHasItsLastStepAtOnce) {
  EXPECT_EQ(schedule("constant", 1).at(1), kLr);
  EXPECT_EQ(schedule("linear", 1, "0", "1e-5").at(1), 1e-5);
  EXPECT_EQ(schedule("cosine", 1, "0", "1e-5").at(1), 1e-5);
  for (const char* name : {"constant", "linear", "cosine"}) {
    EXPECT_EQ(schedule(name, 1, "1").at(1), kLr) << name;  // which is that of the warm-up, too
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
