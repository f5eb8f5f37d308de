// When a drift is told, and how often.
#include "launch/train/watch/drift_watch.h"

#include <gtest/gtest.h>

namespace sutor {
namespace {

Traffic share(double percent, int64_t all = 100000) {
  return {.choices = static_cast<int64_t>(percent * static_cast<double>(all) / 100),
          .all_choices = all};
}

// How many times something is told in `steps` steps of such traffic.
int told(DriftWatch& watch, const DriftWatch::LayerTraffic& step, int steps) {
  int count = 0;
  for (int i = 0; i < steps; ++i) count += watch.observe(step).has_value();
  return count;
}

TEST(DriftWatch, TellsAFallOnceAndNamesItsLayers) {
  DriftWatch watch({{3, share(24)}, {5, share(20)}, {9, share(22)}});
  const DriftWatch::LayerTraffic step = {{3, share(12)}, {5, share(19)}, {9, share(10)}};
  EXPECT_EQ(told(watch, step, 9), 0);
  const auto text = watch.observe(step);
  ASSERT_TRUE(text);
  EXPECT_NE(text->find("W0307"), std::string::npos) << *text;
  EXPECT_NE(text->find("from 23.0% at scoring to 11.0% now (layers 3, 9)"), std::string::npos)
      << *text;
  EXPECT_EQ(told(watch, step, 200), 0);
  EXPECT_EQ(watch.drifted(), (std::set<int>{3, 9}));
}

TEST(DriftWatch, SaysNothingOfSharesThatStayOrRise) {
  DriftWatch watch({{3, share(24)}});
  EXPECT_EQ(told(watch, {{3, share(24)}}, 50), 0);
  EXPECT_EQ(told(watch, {{3, share(20)}}, 50), 0);
  EXPECT_EQ(told(watch, {{3, share(60)}}, 50), 0);
}

TEST(DriftWatch, SaysNothingOfFewTokensThatChanceExplains) {
  DriftWatch watch({{3, share(10)}});
  EXPECT_EQ(told(watch, {{3, {.choices = 0, .all_choices = 4}}}, 50), 0);
}

TEST(DriftWatch, TellsAgainOnlyAfterARecovery) {
  DriftWatch watch({{3, share(24)}});
  EXPECT_EQ(told(watch, {{3, share(12)}}, 100), 1);
  EXPECT_EQ(told(watch, {{3, share(19)}}, 200), 0);  // below 17/20: no recovery
  EXPECT_EQ(told(watch, {{3, share(12)}}, 100), 0);
  EXPECT_EQ(told(watch, {{3, share(24)}}, 100), 0);
  EXPECT_TRUE(watch.drifted().empty());
  EXPECT_EQ(told(watch, {{3, share(12)}}, 100), 1);
}

TEST(DriftWatch, GathersLayersThatFollowEachOther) {
  DriftWatch::LayerTraffic scored, step;
  for (int layer = 0; layer < 20; ++layer) scored[layer] = share(24);
  DriftWatch watch(scored);
  int count = 0;
  for (int i = 0; i < 60; ++i) {  // a layer more at every step
    for (int layer = 0; layer < 20; ++layer) step[layer] = share(layer <= i ? 1 : 24);
    count += watch.observe(step).has_value();
  }
  EXPECT_LE(count, 3);
  EXPECT_EQ(watch.drifted().size(), 20u);
}

TEST(DriftWatch, WithoutScoresSaysNothing) {
  DriftWatch watch({});
  EXPECT_EQ(told(watch, {{3, share(1)}}, 50), 0);
}

}  // namespace
}  // namespace sutor
